//! An address or a network of addresses, as `10.0.0.0/8` writes it.

use std::{fmt, net::IpAddr};

/// All addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Reads an address or a network; `None` when it is neither, or has bits set beyond its prefix.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address = address.parse::<IpAddr>().ok()?;
        let widest = if address.is_ipv4() { 32 } else { 128 };
        let bits = match prefix {
            None => widest,
            Some(prefix) if prefix.bytes().all(|byte| byte.is_ascii_digit()) => prefix.parse().ok()?,
            Some(_) => return None,
        };
        let network = Self { address, bits };
        (bits <= widest && masked(address, bits) == address).then_some(network)
    }

    /// Reads a JSON list of them.
    #[must_use]
    pub(crate) fn read_list(text: &str) -> Option<Vec<Self>> {
        let texts: Vec<String> = serde_json::from_str(text).ok()?;
        texts.iter().map(|text| Self::read(text)).collect()
    }

    /// Whether the address is in it. An IPv4 address that is written as IPv6 counts as what it is.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.bits) == self.address
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// The address with all bits but the first ones cleared.
fn masked(address: IpAddr, bits: u8) -> IpAddr {
    let bits = u32::from(bits);
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - bits.min(32)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - bits.min(128)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_what_begins_with_its_bits() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ("192.0.2.1/32", "::ffff:192.0.2.1", "::192.0.2.1"),
            ("0.0.0.0/0", "203.0.113.7", "::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("::/0", "2001:db8::1", "10.0.0.1"),
            ("::1", "::1", "::2"),
        ] {
            let network = Network::read(network).unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{network} {inside}");
            assert!(!network.contains(outside.parse().unwrap()), "{network} {outside}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "/",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "::/129",
            "10.0.0.0/+8",
            "localhost",
            "10.0.0.0/8/8",
            "2001:db8::1/32",
            "10.0.0.0/256",
        ] {
            assert_eq!(Network::read(text), None, "{text}");
        }
        assert_eq!(Network::read_list(r#"["10.0.0.0/8", "x"]"#), None);
        assert_eq!(Network::read_list("[]"), Some(Vec::new()));
    }
}
