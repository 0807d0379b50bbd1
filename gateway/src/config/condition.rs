//! What a lane rule may ask of a flow: networks, interfaces and times of day, as an operator
//! writes them.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::civil::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An address or a network in CIDR notation, such as `192.0.2.7` or `2001:db8::/32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^[0-9A-Fa-f:.]+(/[0-9]+)?$"))]
pub struct Network(pub IpNet);

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let net = if text.contains('/') {
            text.parse::<IpNet>().ok().map(|net| net.trunc())
        } else {
            text.parse::<IpAddr>().ok().map(IpNet::from)
        };
        net.map(|net| Self(canonical(net)))
            .ok_or_else(|| format!("`{text}` is not an address or network; write for example `192.0.2.0/24`"))
    }
}

/// IPv4-mapped addresses (RFC 4291 section 2.5.5.2) are IPv4 ones, as those of clients are.
fn canonical(net: IpNet) -> IpNet {
    match (net, net.addr().to_canonical(), net.prefix_len().checked_sub(96)) {
        (IpNet::V6(_), v4 @ IpAddr::V4(_), Some(length)) => IpNet::new(v4, length).unwrap_or(net),
        _ => net,
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(f) } else { self.0.fmt(f) }
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

/// Longest name of a network interface in bytes (`IFNAMSIZ` of `linux/if.h`, less the final NUL).
const LONGEST_INTERFACE: usize = 15;

/// The name of a network interface, or a pattern: `*` stands for any characters, `?` for one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = r"^[^\s/:]+$"))]
pub struct InterfacePattern(String);

impl InterfacePattern {
    /// The pattern of all interfaces.
    #[must_use]
    pub fn any() -> Self {
        Self("*".to_owned())
    }

    /// The pattern as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the name of one interface.
    #[must_use]
    pub fn is_name(&self) -> bool {
        !self.0.contains(['*', '?'])
    }

    /// Whether the interface called `name` is meant.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        matches(self.0.as_bytes(), name.as_bytes())
    }
}

/// Matches with one point of return: the last `*` takes one byte more at each failure.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut seen) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = name.get(seen) {
        match (pattern.get(at), star) {
            (Some(b'*'), _) => {
                star = Some((at, seen));
                at += 1;
            }
            (Some(wanted), _) if wanted == byte || *wanted == b'?' => {
                at += 1;
                seen += 1;
            }
            (_, Some((star_at, star_seen))) => {
                star = Some((star_at, star_seen + 1));
                at = star_at + 1;
                seen = star_seen + 1;
            }
            (_, None) => return false,
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

impl TryFrom<String> for InterfacePattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':');
        let length = text.bytes().filter(|byte| *byte != b'*').count();
        if text.is_empty() || text.contains(wrong) || length > LONGEST_INTERFACE {
            return Err(format!(
                "`{text}` cannot be an interface; write a name of at most {LONGEST_INTERFACE} characters \
                 such as `eth0`, or a pattern such as `vnet*`"
            ));
        }
        Ok(Self(text))
    }
}

impl fmt::Display for InterfacePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<InterfacePattern> for String {
    fn from(pattern: InterfacePattern) -> Self {
        pattern.0
    }
}

/// A part of the day in local time, such as `08:00-18:00`; `22:00-06:00` goes over midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^[0-2]?[0-9]:[0-5][0-9]-[0-2]?[0-9]:[0-5][0-9]$"))]
pub struct DayTimes {
    /// First minute of the day that is meant.
    from: u16,
    /// First minute that is no longer meant; 1,440 for the end of the day.
    until: u16,
}

/// Minutes of a day.
const DAY: u16 = 24 * 60;

impl DayTimes {
    /// Whether `time` is meant: the first minute is, the last is not.
    #[must_use]
    pub fn contains(self, time: Time) -> bool {
        let minute = u16::from(time.hour().unsigned_abs()) * 60 + u16::from(time.minute().unsigned_abs());
        if self.from < self.until {
            (self.from..self.until).contains(&minute)
        } else {
            minute >= self.from || minute < self.until
        }
    }
}

impl TryFrom<String> for DayTimes {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let ends = text.split_once('-').and_then(|(from, until)| Some((minute(from)?, minute(until)?)));
        match ends {
            Some((from, until)) if from != until && from != DAY && until != 0 => Ok(Self { from, until }),
            Some((from, 0)) if from != 0 && from != DAY => Ok(Self { from, until: DAY }),
            Some((from, until)) if from == until => {
                Err(format!("`{text}` is no time at all; leave `time` out for the whole day"))
            }
            _ => Err(format!("`{text}` is not a time of day; write for example `08:00-18:00`")),
        }
    }
}

/// The minute of the day that `text` names as `HH:MM`, up to `24:00`.
fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.trim().split_once(':')?;
    let number = |digits: &str, lengths: std::ops::RangeInclusive<usize>| {
        let plain = lengths.contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse::<u16>().ok()).flatten()
    };
    let (hour, minute) = (number(hour, 1..=2)?, number(minute, 2..=2)?);
    (minute < 60).then_some(hour * 60 + minute).filter(|minute| *minute <= DAY)
}

impl fmt::Display for DayTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, until } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, until / 60, until % 60)
    }
}

impl From<DayTimes> for String {
    fn from(times: DayTimes) -> Self {
        times.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(text: &str) -> InterfacePattern {
        InterfacePattern::try_from(text.to_owned()).unwrap()
    }

    fn times(text: &str) -> Result<DayTimes, String> {
        DayTimes::try_from(text.to_owned())
    }

    #[test]
    fn a_pattern_matches_whole_names() {
        for (pattern, name, expected) in [
            ("eth0", "eth0", true),
            ("eth0", "eth01", false),
            ("vnet*", "vnet", true),
            ("vnet*", "vnet12", true),
            ("vnet*", "xvnet1", false),
            ("*", "", true),
            ("*.10?", "eth0.101", true),
            ("*.10?", "eth0.10", false),
            ("e*h*0", "ethhh10", true),
            ("a*b*c", "abcb", false),
        ] {
            assert_eq!(interface(pattern).matches(name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn mapped_networks_are_networks_of_ipv4() {
        for (text, expected) in [
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7/120", "192.0.2.0/24"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            // Wider than all of IPv4.
            ("::ffff:0:0/95", "::fffe:0:0/95"),
            ("::/0", "::/0"),
            ("2001:db8::7/120", "2001:db8::/120"),
        ] {
            assert_eq!(Network::try_from(text.to_owned()).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn networks_print_as_they_are_written() {
        for text in ["192.0.2.7", "192.0.2.0/24", "2001:db8::1", "::/0"] {
            assert_eq!(Network::try_from(text.to_owned()).unwrap().to_string(), text);
        }
        assert_eq!(Network::try_from("192.0.2.7/24".to_owned()).unwrap().to_string(), "192.0.2.0/24");
    }

    #[test]
    fn what_cannot_be_an_interface_is_refused() {
        for text in ["", "eth 0", "a/b", "eth0:1", "sixteen-letters-"] {
            assert!(InterfacePattern::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn times_over_midnight_are_two_stretches() {
        let night = times("22:00-06:00").unwrap();
        let at = |hour, minute| jiff::civil::time(hour, minute, 59, 0);
        assert!(night.contains(at(22, 0)) && night.contains(at(23, 59)) && night.contains(at(5, 59)));
        assert!(!night.contains(at(6, 0)) && !night.contains(at(21, 59)));
        let day = times("8:00-18:30").unwrap();
        assert!(day.contains(at(8, 0)) && !day.contains(at(18, 30)) && !day.contains(at(0, 0)));
    }

    #[test]
    fn times_print_as_they_are_written() {
        for text in ["08:00-18:00", "22:00-06:00", "18:00-24:00"] {
            assert_eq!(times(text).unwrap().to_string(), text);
        }
        assert_eq!(times("18:00-00:00").unwrap().to_string(), "18:00-24:00");
    }

    #[test]
    fn times_that_mean_nothing_are_refused() {
        for text in [
            "08:00",
            "8-18",
            "08:00-25:00",
            "08:60-09:00",
            "24:00-06:00",
            "09:00-09:00",
            "00:00-00:00",
            "+8:00-9:00",
        ] {
            assert!(times(text).is_err(), "{text}");
        }
    }
}
