//! A small strict reader of the Prometheus text format, which fails on anything that the format does not allow.

use std::collections::{BTreeMap, BTreeSet};

/// One sample.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// All samples, after checking names, types, escaping and histograms.
pub(crate) fn parse(text: &str) -> Result<Vec<Sample>, String> {
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("the last line does not end".into());
    }
    let mut types: BTreeMap<String, String> = BTreeMap::new();
    let mut current = String::new();
    let mut samples = Vec::new();
    for line in text.lines() {
        let at = |what: &str| format!("{what}: {line}");
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, _) = help.split_once(' ').ok_or_else(|| at("no help"))?;
            current = name.to_owned();
        } else if let Some(of) = line.strip_prefix("# TYPE ") {
            let (name, kind) = of.split_once(' ').ok_or_else(|| at("no type"))?;
            if name != current || types.insert(name.to_owned(), kind.to_owned()).is_some() {
                return Err(at("a family that is not together"));
            }
            if (kind == "counter") != name.ends_with("_total") {
                return Err(at("counters, and nothing else, end in _total"));
            }
        } else {
            let sample = parse_sample(line).map_err(|what| at(&what))?;
            let kind = types.get(&current).ok_or_else(|| at("no type"))?;
            let suffixes: &[&str] = match kind.as_str() {
                "histogram" => &["_bucket", "_sum", "_count"],
                "counter" | "gauge" => &[""],
                _ => return Err(at("unknown type")),
            };
            let belongs = suffixes
                .iter()
                .any(|suffix| sample.name == format!("{current}{suffix}"));
            if !belongs {
                return Err(at("a sample outside its family"));
            }
            samples.push(sample);
        }
    }
    let mut seen = BTreeSet::new();
    for sample in &samples {
        if !seen.insert(format!("{} {:?}", sample.name, sample.labels)) {
            return Err(format!("twice: {sample:?}"));
        }
    }
    for (name, kind) in &types {
        if kind == "histogram" {
            check_histogram(name, &samples)?;
        }
    }
    Ok(samples)
}

fn parse_sample(line: &str) -> Result<Sample, String> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let name = &line[..end];
    let starts = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    if !name.starts_with(starts) || !name.chars().all(|c| starts(c) || c.is_ascii_digit()) {
        return Err("not a metric name".into());
    }
    let (labels, rest) = match line[end..].strip_prefix('{') {
        Some(rest) => parse_labels(rest)?,
        None => (BTreeMap::new(), &line[end..]),
    };
    let value = rest.strip_prefix(' ').ok_or("no value")?;
    Ok(Sample {
        name: name.to_owned(),
        labels,
        value: value.parse().map_err(|_| "not a number")?,
    })
}

/// Labels up to the closing brace, and what follows it.
fn parse_labels(mut rest: &str) -> Result<(BTreeMap<String, String>, &str), String> {
    let mut labels = BTreeMap::new();
    loop {
        let (name, after) = rest.split_once("=\"").ok_or("no label value")?;
        let starts = |c: char| c.is_ascii_alphabetic() || c == '_';
        if !name.starts_with(starts) || !name.chars().all(|c| starts(c) || c.is_ascii_digit()) {
            return Err(format!("not a label name: {name}"));
        }
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next().ok_or("an open label value")? {
                (at, '"') => break at,
                (_, '\\') => match chars.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, c @ ('"' | '\\'))) => value.push(c),
                    _ => return Err("an unknown escape".into()),
                },
                (_, c) => value.push(c),
            }
        };
        if labels.insert(name.to_owned(), value).is_some() {
            return Err(format!("label {name} twice"));
        }
        rest = &after[end + 1..];
        if let Some(after) = rest.strip_prefix('}') {
            return Ok((labels, after));
        }
        rest = rest.strip_prefix(',').ok_or("no comma between labels")?;
    }
}

/// `le` ascends, counts never fall, the bucket of everything is the count.
fn check_histogram(name: &str, samples: &[Sample]) -> Result<(), String> {
    let mut series: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    let mut totals = BTreeMap::new();
    let mut sums = BTreeSet::new();
    for sample in samples {
        let mut labels = sample.labels.clone();
        let le = labels.remove("le");
        let key = format!("{labels:?}");
        if sample.name == format!("{name}_bucket") {
            let le = le.ok_or("a bucket without le")?;
            let le: f64 = le.parse().map_err(|_| format!("le={le}"))?;
            series.entry(key).or_default().push((le, sample.value));
        } else if sample.name == format!("{name}_count") {
            totals.insert(key, sample.value);
        } else if sample.name == format!("{name}_sum") {
            sums.insert(key);
        }
    }
    if totals.len() != series.len() || sums.len() != series.len() {
        return Err(format!("{name}: sums, counts and buckets do not match"));
    }
    for (key, buckets) in &series {
        let ascending = buckets
            .windows(2)
            .all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
        let last = buckets.last().copied();
        let total = totals.get(key).map(|total| (f64::INFINITY, *total));
        if !ascending || last != total {
            return Err(format!("{name}{key}: {buckets:?} of {total:?}"));
        }
    }
    Ok(())
}

#[test]
fn what_the_format_forbids_is_refused() {
    let histogram = "# HELP h x\n# TYPE h histogram\n";
    for (wrong, lines) in [
        ("no type", "a 1\n".to_owned()),
        ("no newline", "# HELP a x\n# TYPE a gauge\na 1".to_owned()),
        (
            "counter name",
            "# HELP a x\n# TYPE a counter\na 1\n".to_owned(),
        ),
        ("twice", "# HELP a x\n# TYPE a gauge\na 1\na 2\n".to_owned()),
        (
            "raw quote",
            "# HELP a x\n# TYPE a gauge\na{b=\"\"\"} 1\n".to_owned(),
        ),
        (
            "falling",
            format!(
                "{histogram}h_bucket{{le=\"1\"}} 2\nh_bucket{{le=\"+Inf\"}} 1\nh_sum 1\nh_count 1\n"
            ),
        ),
        (
            "count",
            format!(
                "{histogram}h_bucket{{le=\"1\"}} 1\nh_bucket{{le=\"+Inf\"}} 1\nh_sum 1\nh_count 2\n"
            ),
        ),
        (
            "no inf",
            format!("{histogram}h_bucket{{le=\"1\"}} 1\nh_sum 1\nh_count 1\n"),
        ),
        (
            "no sum",
            format!("{histogram}h_bucket{{le=\"+Inf\"}} 1\nh_count 1\n"),
        ),
    ] {
        assert!(parse(&lines).is_err(), "{wrong}");
    }
}
