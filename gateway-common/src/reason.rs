//! Why the program did what it did with a packet.

macro_rules! reasons {
    ($($(#[$doc:meta])+ $variant:ident = $name:literal,)+) => {
        /// Why the program did what it did with a packet. The number is the counter's place.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[$doc])+ $variant,)+
        }

        impl Reason {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// How many there are.
            #[expect(clippy::cast_possible_truncation, reason = "a list written by hand is short")]
            pub const COUNT: u32 = Self::ALL.len() as u32;

            /// The name in metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

reasons! {
    /// Passed: sent by the gateway itself.
    Own = "own",
    /// Passed: a SYN of the gateway's own that the network has sent back here. To intercept it
    /// would make the gateway its own client, without end.
    OwnReturned = "own_returned",
    /// Passed: steered already on an interface below this one.
    Steered = "already_steered",
    /// Passed: the loader has said nothing of this interface, and other ports were not seen at a glance.
    UnknownInterface = "unknown_interface",
    /// Passed: neither IPv4 nor IPv6.
    NotIp = "not_ip",
    /// Passed: more than two VLAN tags.
    TooManyTags = "too_many_vlan_tags",
    /// Passed: a fragment. The stack puts fragments together behind the program.
    Fragment = "fragment",
    /// Passed: shorter than its headers say.
    Truncated = "truncated",
    /// Passed: a header that contradicts itself.
    BadHeader = "bad_header",
    /// Passed: more IPv6 extension headers than the program follows, or one it does not know.
    ExtensionHeaders = "extension_headers",
    /// Passed: not TCP.
    NotTcp = "not_tcp",
    /// Passed: neither port is intercepted.
    OtherPort = "other_port",
    /// Passed: belongs to a socket of this machine that is not the gateway's.
    ForeignSocket = "foreign_socket",
    /// Passed: belongs to no socket and opens no flow.
    NoSocket = "no_socket",
    /// Passed: opens a flow, but not on an interface for clients.
    NotFromClient = "not_from_client",
    /// Passed: opens a flow to this machine itself.
    LocalDestination = "local_destination",
    /// Passed: a lane rule bypasses the gateway.
    Bypassed = "bypassed",
    /// Dropped: a lane rule blocks it.
    Blocked = "blocked",
    /// Passed, as configured: nothing listens for new flows.
    DownPassed = "down_passed",
    /// Dropped, as configured: nothing listens for new flows.
    DownDropped = "down_dropped",
    /// Steered: opens a flow.
    Opened = "opened",
    /// Steered: belongs to a flow the gateway has.
    Established = "established",
    /// Steered: the third packet of a handshake that a SYN cookie stands for.
    Cookie = "syn_cookie",
    /// Steered once more: it lost its socket between two interfaces, as packets do on a bridge
    /// that calls netfilter.
    SteeredAgain = "steered_again",
    /// Dropped: its socket vanished while the program looked at it.
    SocketVanished = "socket_vanished",
    /// Dropped: its flow is just being handed off.
    Frozen = "frozen",
    /// Forwarded: renumbered, and sent straight to the neighbour.
    Redirected = "redirected",
    /// Passed: renumbered, and left to the stack to forward.
    Translated = "translated",
    /// Passed as it came: too large for the way it would take, or under way for too long, which the
    /// stack tells its sender.
    TooLarge = "too_large",
    /// Dropped: the kernel does not let the program renumber it.
    Unwritable = "unwritable",
    /// Dropped: opens a flow, but its client is over a limit.
    RefusedSyn = "client_over_limit_syn",
    /// Dropped: belongs to a flow that passes unread, whose client is over its limit of octets.
    OverLimit = "client_over_limit",
    /// Dropped on its way out: sent by the gateway's own stack for a flow that was handed off.
    Stray = "stray",
    /// Dropped: its flow was condemned, by an operator, a limit or a lock.
    Condemned = "condemned",
    /// Forwarded: an ICMP error about a handed-off flow, translated back for the sender of what it
    /// quotes, and sent straight to the neighbour.
    IcmpRedirected = "icmp_redirected",
    /// Passed: the same, left to the stack to forward.
    IcmpTranslated = "icmp_translated",
    /// Steered: an ICMP error about a connection of the gateway's.
    IcmpSteered = "icmp_steered",
    /// Dropped: a SYN of a locked client, or one that could not be answered.
    Locked = "locked",
    /// Answered with a reset: a SYN of a locked client.
    LockReset = "lock_reset",
    /// Steered: a SYN of a locked client, whom the proxy answers.
    LockRejected = "lock_rejected",
    /// Answered with a reset: opens a flow, but its client is over a limit.
    ResetSyn = "client_over_limit_reset",
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn every_reason_has_its_own_number_and_name() {
        for (number, reason) in (0..).zip(Reason::ALL) {
            assert_eq!(*reason as u32, number);
        }
        let names: std::collections::HashSet<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
    }
}
