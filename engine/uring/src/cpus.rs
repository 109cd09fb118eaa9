//! CPU lists and the process's affinity mask.

use std::io;
use std::mem;

use crate::error::StartError;

/// Parses `0`, `0,1`, `0-3`, mixtures of these, or `all` (every CPU this process may run on).
///
/// The result is sorted and free of duplicates. A CPU outside the affinity mask is an error.
pub fn parse_cpus(list: &str) -> Result<Vec<usize>, StartError> {
    let allowed = allowed_cpus()?;
    parse_within(list, &allowed)
}

fn parse_within(list: &str, allowed: &[usize]) -> Result<Vec<usize>, StartError> {
    let malformed = || StartError::CpuList(list.to_owned());
    let number = |text: &str| text.trim().parse::<usize>().map_err(|_| malformed());
    if list.trim() == "all" {
        return Ok(allowed.to_vec());
    }
    let mut cpus = Vec::new();
    for part in list.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if first > last {
            return Err(malformed());
        }
        for cpu in first..=last {
            check_allowed(cpu, allowed)?;
            cpus.push(cpu);
        }
    }
    cpus.sort_unstable();
    cpus.dedup();
    Ok(cpus)
}

pub(crate) fn check_allowed(cpu: usize, allowed: &[usize]) -> Result<(), StartError> {
    if allowed.contains(&cpu) {
        return Ok(());
    }
    Err(StartError::CpuNotAllowed {
        cpu,
        allowed: allowed.to_vec(),
    })
}

/// The CPUs this process may run on, in order.
pub fn allowed_cpus() -> Result<Vec<usize>, StartError> {
    let mask = Affinity::current()?;
    let cpus = 0..8 * mem::size_of::<libc::cpu_set_t>();
    // SAFETY: CPU_ISSET reads bit `cpu` of the set, and `cpu` is below the number of bits the set has.
    Ok(cpus
        .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &mask.0) })
        .collect())
}

/// The affinity mask of a thread.
pub(crate) struct Affinity(libc::cpu_set_t);

impl Affinity {
    /// The calling thread's.
    pub(crate) fn current() -> Result<Affinity, StartError> {
        // SAFETY: all-zero is the empty set, a valid value of this plain C struct; the call writes at most the size
        // it is given, to a live local.
        let (set, result) = unsafe {
            let mut set: libc::cpu_set_t = mem::zeroed();
            let result = libc::sched_getaffinity(0, mem::size_of_val(&set), &mut set);
            (set, result)
        };
        if result != 0 {
            return Err(StartError::System {
                what: "reading the CPU affinity",
                source: io::Error::last_os_error(),
            });
        }
        Ok(Affinity(set))
    }

    /// Gives the calling thread this mask.
    pub(crate) fn restore(&self) -> io::Result<()> {
        // SAFETY: the call reads the given number of bytes from a live reference.
        let result = unsafe { libc::sched_setaffinity(0, mem::size_of_val(&self.0), &self.0) };
        match result {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::parse_within;

    #[test]
    fn lists() {
        let allowed = [0, 1, 2, 5];
        let check = |list: &str, expected: Option<&[usize]>| {
            assert_eq!(
                parse_within(list, &allowed).ok().as_deref(),
                expected,
                "{list}"
            );
        };
        check("0", Some(&[0]));
        check("0,1", Some(&[0, 1]));
        check("0-2", Some(&[0, 1, 2]));
        check("5,0-1, 1", Some(&[0, 1, 5]));
        check("all", Some(&[0, 1, 2, 5]));
        check("3", None);
        check("0-5", None);
        check("", None);
        check("2-0", None);
        check("0-99999999999", None);
        check("a", None);
    }
}
