//! A broker's metrics server, asked for `/metrics.json` from outside.

use std::time::Duration;

use console::Document;

use super::CommandError;

/// How long one answer may take: the broker gives its shards one second.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// Longest answer that is read: several times what the largest broker says.
const ANSWER_BYTES_MAX: u64 = 32 << 20;

/// A broker's HTTP server.
pub struct Source {
    agent: ureq::Agent,
    address: String,
    url: String,
}

impl Source {
    /// A source at `http://HOST:PORT`, or at a whole URL of a `/metrics.json`.
    pub fn new(url: &str) -> Result<Source, CommandError> {
        let address = url.trim_end_matches('/');
        let address = address.strip_suffix("/metrics.json").unwrap_or(address);
        let address = match address.split_once("://") {
            None => format!("http://{address}"),
            Some(("http", _)) => address.to_owned(),
            Some(_) => {
                return Err(CommandError::Usage(format!(
                    "{url} as a metrics server: write it as http://HOST:PORT"
                )));
            }
        };
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(ANSWER_PATIENCE))
            .proxy(None)
            .max_idle_connections(0)
            .build()
            .into();
        Ok(Source {
            agent,
            url: format!("{address}/metrics.json?histograms=merged"),
            address,
        })
    }

    /// The server, without a path.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Asks once.
    pub fn fetch(&self) -> Result<Document, CommandError> {
        let failed = |error: &dyn std::fmt::Display| {
            CommandError::Failed(format!(
                "{}: {error}\nIs a broker running there? Its ready line says http=ADDRESS: the address to ask",
                self.url
            ))
        };
        let mut answer = self
            .agent
            .get(&self.url)
            .call()
            .map_err(|error| failed(&error))?;
        let body = answer
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_to_vec()
            .map_err(|error| failed(&error))?;
        serde_json::from_slice(&body).map_err(|error| failed(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::Source;

    #[test]
    fn urls_may_be_written_shortly() {
        for (given, expected) in [
            ("http://a:1", "http://a:1"),
            ("http://a:1/", "http://a:1"),
            ("a:1", "http://a:1"),
            ("http://a:1/metrics.json", "http://a:1"),
            ("http://a:1/x", "http://a:1/x"),
        ] {
            let source = Source::new(given).expect("understood");
            assert_eq!(source.address(), expected);
            assert_eq!(
                source.url,
                format!("{expected}/metrics.json?histograms=merged")
            );
        }
        assert!(Source::new("https://a:1").is_err());
    }
}
