//! Whether an address is in a network of a record.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether `address` is an IPv4 address in the network of `network` and `mask`.
pub(super) const fn matches_v4(address: IpAddr, network: Ipv4Addr, mask: u32) -> bool {
    match address {
        IpAddr::V4(address) => address.to_bits() & mask == network.to_bits() & mask,
        IpAddr::V6(_) => false,
    }
}

/// Whether `address` is an IPv6 address in the network of `network` and `mask`.
pub(super) const fn matches_v6(address: IpAddr, network: Ipv6Addr, mask: u128) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.to_bits() & mask == network.to_bits() & mask,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_count_and_families_do_not_mix() {
        let v4 = |mask| matches_v4("192.0.2.77".parse().unwrap(), "192.0.2.64".parse().unwrap(), mask);
        assert!(v4(u32::MAX << 5) && v4(0) && !v4(u32::MAX));
        let v6 = |mask| matches_v6("2001:db8::77".parse().unwrap(), "2001:db8::".parse().unwrap(), mask);
        assert!(v6(u128::MAX << 64) && v6(0) && !v6(u128::MAX));
        assert!(!matches_v4("::1".parse().unwrap(), Ipv4Addr::UNSPECIFIED, 0));
        assert!(!matches_v6("192.0.2.1".parse().unwrap(), Ipv6Addr::UNSPECIFIED, 0));
    }
}
