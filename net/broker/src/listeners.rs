//! Which listeners a broker serves, and what clients of each are told.
//!
//! Pure. A broker may have several: one for clients of the same network, another for those behind a translation of addresses,
//! each with the address under which its clients reach it. Who asks on a listener is told the addresses of that name.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use model::config::{BrokerConfig, Listener};
use shard::contacts::PEER_LISTENER;

/// The only protocol that is served.
const PLAINTEXT: &str = "PLAINTEXT";

/// Why a configuration cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}={listener}: {reason}")]
pub struct ListenerRefused {
    /// Which setting.
    pub key: &'static str,
    /// As configured.
    pub listener: String,
    /// Why not.
    pub reason: String,
}

/// A listener for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedListener {
    /// Its name, in capitals.
    pub name: Arc<str>,
    /// Where to listen; port 0 is any free one.
    pub address: SocketAddr,
    /// Where its clients are told to connect; port 0 is the bound one. `None`: they are told nothing.
    pub advertised: Option<Listener>,
}

/// The listeners that a broker of this configuration serves: those for clients. The controller's is for other
/// brokers ([`peer_listener`]).
pub fn served_listeners(config: &BrokerConfig) -> Result<Vec<&Listener>, ListenerRefused> {
    let all = config.listeners.iter();
    let listeners: Vec<&Listener> = all.filter(|one| !is_controllers(config, one)).collect();
    let refused = |listener: &Listener, reason: String| ListenerRefused {
        key: "listeners",
        listener: listener.to_string(),
        reason,
    };
    if listeners.is_empty() {
        return Err(ListenerRefused {
            key: "listeners",
            listener: String::new(),
            reason: "no listener is for clients".to_owned(),
        });
    }
    for (place, listener) in listeners.iter().enumerate() {
        if listener.name == PEER_LISTENER {
            let reason = "this name is kept for other brokers: choose another".to_owned();
            return Err(refused(listener, reason));
        }
        match protocol(&config.listener_security_protocol_map, &listener.name) {
            Some(protocol) if protocol.eq_ignore_ascii_case(PLAINTEXT) => {}
            Some(protocol) => {
                let reason = format!("{protocol} is not served; put TLS in front of PLAINTEXT");
                return Err(refused(listener, reason));
            }
            None => {
                let reason = format!(
                    "listener.security.protocol.map has no protocol for {}",
                    listener.name
                );
                return Err(refused(listener, reason));
            }
        }
        for other in &listeners[..place] {
            if other.name == listener.name {
                let reason = "two listeners have one name".to_owned();
                return Err(refused(listener, reason));
            }
            // The kernel would hand connections to either: shards share their addresses.
            if may_be_one_address(other, listener) {
                let reason = format!("{other} has the same port");
                return Err(refused(listener, reason));
            }
        }
    }
    check_advertised(config, &listeners)?;
    Ok(listeners)
}

/// Where a broker listens for other brokers: as it is told, or on the controller's listener of a file of Kafka's, or on any
/// free port of the host that clients reach it at.
pub fn peer_listener(config: &BrokerConfig) -> Listener {
    if let Some(listener) = &config.peer_listen {
        return listener.clone();
    }
    let mut all = config.listeners.iter();
    if let Some(listener) = all.find(|one| is_controllers(config, one)) {
        return listener.clone();
    }
    let first = config.listeners.first();
    Listener {
        name: PEER_LISTENER.to_owned(),
        host: first.map_or_else(String::new, |first| first.host.clone()),
        port: 0,
    }
}

fn is_controllers(config: &BrokerConfig, listener: &Listener) -> bool {
    let mut names = config.controller_listener_names.iter();
    names.any(|name| name.eq_ignore_ascii_case(&listener.name))
}

fn check_advertised(config: &BrokerConfig, listeners: &[&Listener]) -> Result<(), ListenerRefused> {
    let advertised = config.advertised_listeners.iter();
    let advertised: Vec<&Listener> = advertised
        .filter(|one| !is_controllers(config, one))
        .collect();
    for (place, told) in advertised.iter().enumerate() {
        let is_served = listeners.iter().any(|one| one.name == told.name);
        let reason = match () {
            () if !is_served => "no listener has this name",
            () if advertised[..place].iter().any(|one| one.name == told.name) => {
                "a listener is advertised once"
            }
            () => continue,
        };
        return Err(ListenerRefused {
            key: "advertised.listeners",
            listener: told.to_string(),
            reason: reason.to_owned(),
        });
    }
    Ok(())
}

/// The listeners with the addresses that were found for them, in order. Clients are told `host_name` where no host is
/// named.
pub(crate) fn plan_listeners(
    config: &BrokerConfig,
    addresses: &[SocketAddr],
    host_name: &str,
) -> Result<Vec<PlannedListener>, ListenerRefused> {
    let listeners = served_listeners(config)?;
    assert_eq!(
        listeners.len(),
        addresses.len(),
        "each listener has an address"
    );
    let planned = listeners.iter().zip(addresses).map(|(listener, address)| {
        let told = match config.advertised_listeners.is_empty() {
            true => Some(*listener),
            false => {
                let mut told = config.advertised_listeners.iter();
                told.find(|told| told.name == listener.name)
            }
        };
        PlannedListener {
            name: listener.name.as_str().into(),
            address: *address,
            advertised: told.map(|told| with_host(told, host_name)),
        }
    });
    Ok(planned.collect())
}

pub(crate) fn with_host(told: &Listener, host_name: &str) -> Listener {
    let host = match is_any(&told.host) {
        true => host_name,
        false => &told.host,
    };
    Listener {
        name: told.name.clone(),
        host: host.to_owned(),
        port: told.port,
    }
}

/// The protocol of a listener's name, as `NAME:PROTOCOL,...` has it.
fn protocol<'a>(map: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = map
        .split(',')
        .filter_map(|pair| pair.trim().split_once(':'));
    let found = pairs.find(|(known, _)| known.trim().eq_ignore_ascii_case(name));
    found.map(|(_, protocol)| protocol.trim())
}

fn may_be_one_address(one: &Listener, other: &Listener) -> bool {
    let is_one_host = one.host == other.host || is_any(&one.host) || is_any(&other.host);
    one.port == other.port && one.port != 0 && is_one_host
}

/// Whether a host stands for every interface.
fn is_any(host: &str) -> bool {
    host.is_empty() || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(settings: &[(&str, &str)]) -> BrokerConfig {
        let settings = settings.iter();
        let settings = settings.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let none = Default::default();
        BrokerConfig::from_layers(&none, &none, &settings.collect()).unwrap()
    }

    fn with(listeners: &str, advertised: &str, map: &str) -> BrokerConfig {
        let mut settings = vec![("listeners", listeners)];
        if !advertised.is_empty() {
            settings.push(("advertised.listeners", advertised));
        }
        if !map.is_empty() {
            settings.push(("listener.security.protocol.map", map));
        }
        config(&settings)
    }

    #[test]
    fn clients_are_told_the_address_of_their_listener() {
        const MAP: &str = "IN:PLAINTEXT, out:plaintext";
        // (listeners, advertised.listeners) -> what clients of each are told
        let table: [(&str, &str, &[&str]); 9] = [
            ("PLAINTEXT://a:1", "", &["PLAINTEXT://a:1"]),
            ("PLAINTEXT://a:0", "", &["PLAINTEXT://a:0"]),
            ("PLAINTEXT://:1", "", &["PLAINTEXT://the-host:1"]),
            ("PLAINTEXT://0.0.0.0:1", "", &["PLAINTEXT://the-host:1"]),
            ("PLAINTEXT://[::]:1", "", &["PLAINTEXT://the-host:1"]),
            ("PLAINTEXT://:1", "PLAINTEXT://b:2", &["PLAINTEXT://b:2"]),
            (
                "PLAINTEXT://:1",
                "PLAINTEXT://:0",
                &["PLAINTEXT://the-host:0"],
            ),
            (
                "IN://:1,OUT://:2",
                "OUT://[fd00::1]:9,IN://inside:1",
                &["IN://inside:1", "OUT://[fd00::1]:9"],
            ),
            ("IN://:1,OUT://:2", "OUT://b:9", &["-", "OUT://b:9"]),
        ];
        for (listeners, advertised, expected) in table {
            let map = if listeners.starts_with("IN") { MAP } else { "" };
            let config = with(listeners, advertised, map);
            let addresses = vec![SocketAddr::from(([127, 0, 0, 1], 9)); config.listeners.len()];
            let planned = plan_listeners(&config, &addresses, "the-host").unwrap();
            let told = planned.iter().map(|planned| {
                let told = planned.advertised.as_ref();
                told.map_or("-".to_owned(), ToString::to_string)
            });
            let told: Vec<String> = told.collect();
            assert_eq!(told, expected, "{listeners} as {advertised}");
        }
    }

    #[test]
    fn listeners_that_cannot_be_served_are_refused() {
        // (listeners, advertised.listeners, map, why)
        let table = [
            ("SSL://a:1", "", "", "SSL is not served"),
            ("IN://a:1", "", "", "no protocol for IN"),
            ("IN://a:1", "", "IN:SASL_SSL", "SASL_SSL is not served"),
            ("PLAINTEXT://a:1,PLAINTEXT://b:2", "", "", "one name"),
            (
                "IN://:1,OUT://b:1",
                "",
                "IN:PLAINTEXT,OUT:PLAINTEXT",
                "the same port",
            ),
            (
                "IN://b:1,OUT://b:1",
                "",
                "IN:PLAINTEXT,OUT:PLAINTEXT",
                "the same port",
            ),
            (
                "PLAINTEXT://a:1",
                "OUT://b:1",
                "",
                "no listener has this name",
            ),
            (
                "PLAINTEXT://a:1",
                "PLAINTEXT://b:1,PLAINTEXT://c:1",
                "",
                "advertised once",
            ),
        ];
        for (listeners, advertised, map, why) in table {
            let config = with(listeners, advertised, map);
            let refused = served_listeners(&config).expect_err(listeners).to_string();
            assert!(refused.contains(why), "{refused}");
        }
        let apart = with("IN://a:1,OUT://b:1", "", "IN:PLAINTEXT,OUT:PLAINTEXT");
        assert_eq!(served_listeners(&apart).unwrap().len(), 2);
    }

    #[test]
    fn the_controllers_listeners_are_not_for_clients() {
        let settings = |listeners| {
            config(&[
                ("process.roles", "broker,controller"),
                ("listeners", listeners),
                ("controller.listener.names", "CONTROLLER"),
                ("inter.broker.listener.name", "PLAINTEXT"),
                (
                    "advertised.listeners",
                    "PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093",
                ),
                (
                    "listener.security.protocol.map",
                    "CONTROLLER:SSL,PLAINTEXT:PLAINTEXT,SSL:SSL",
                ),
            ])
        };
        let config = settings("PLAINTEXT://:9092,CONTROLLER://:9093");
        let address = SocketAddr::from(([0, 0, 0, 0], 9092));
        let planned = plan_listeners(&config, &[address], "the-host").unwrap();
        assert_eq!(&*planned[0].name, "PLAINTEXT");
        let told = planned[0].advertised.as_ref().unwrap();
        assert_eq!(told.to_string(), "PLAINTEXT://localhost:9092");
        let config = settings("CONTROLLER://:9093");
        let refused = served_listeners(&config).unwrap_err();
        assert!(
            refused.to_string().contains("no listener is for clients"),
            "{refused}"
        );
    }
}
