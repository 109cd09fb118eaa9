//! What a simulation came to.

/// How often something happened that is worth a look: a simulation that never comes there shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Marks {
    pub(crate) decided: u64,
    pub(crate) elections: u64,
    pub(crate) crashes: u64,
    pub(crate) wipes: u64,
    pub(crate) resignations: u64,
    pub(crate) transfers: u64,
    pub(crate) voters_added: u64,
    pub(crate) voters_removed: u64,
    pub(crate) cuts: u64,
    pub(crate) installs: u64,
    pub(crate) reads: u64,
    pub(crate) trims: u64,
    /// Times that more than one write was on its way to a disk.
    pub(crate) writes_under_way: u64,
}

impl Marks {
    fn each(&mut self) -> [(&'static str, &mut u64); 13] {
        [
            ("decided", &mut self.decided),
            ("elections", &mut self.elections),
            ("crashes", &mut self.crashes),
            ("wipes", &mut self.wipes),
            ("resignations", &mut self.resignations),
            ("transfers", &mut self.transfers),
            ("voters added", &mut self.voters_added),
            ("voters removed", &mut self.voters_removed),
            ("cuts", &mut self.cuts),
            ("installs", &mut self.installs),
            ("reads", &mut self.reads),
            ("trims", &mut self.trims),
            ("writes under way", &mut self.writes_under_way),
        ]
    }

    pub(crate) fn add(&mut self, mut other: Marks) {
        for ((_, sum), (_, more)) in self.each().into_iter().zip(other.each()) {
            *sum += *more;
        }
    }

    /// What never happened.
    pub(crate) fn missing(mut self) -> Vec<&'static str> {
        let never = self.each().into_iter().filter(|(_, count)| **count == 0);
        never.map(|(name, _)| name).collect()
    }
}
