//! What the postmaster hears of: sessions in which something went wrong, in the classes of Postfix's `notify_classes`.
//!
//! Owns the classes, and to which of them a refusal of the gateway's own belongs. What a server's reply means is
//! [`client::Report::fault`](super::client::Report::fault)'s to say.

use super::refusal::Refusal;
use crate::config::file::delivery::NotifyClass;

/// A class of faults, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A policy refused what a client wanted.
    Policy,
    /// One side did not keep to the protocol, or did not understand the other.
    Protocol,
    /// The content of a message cannot be used.
    Data,
    /// Somebody lacks room, memory, connections or time.
    Resource,
    /// What the operator has set up does not work: a scanner, a password, a table, a relay.
    Software,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Policy, Self::Protocol, Self::Data, Self::Resource, Self::Software];

    /// Those that `classes` ask for.
    #[must_use]
    pub fn wanted(classes: &[NotifyClass]) -> Vec<Self> {
        classes.iter().filter_map(|class| Self::of_class(*class)).collect()
    }

    const fn of_class(class: NotifyClass) -> Option<Self> {
        match class {
            NotifyClass::Policy => Some(Self::Policy),
            NotifyClass::Protocol => Some(Self::Protocol),
            NotifyClass::Data => Some(Self::Data),
            NotifyClass::Resource => Some(Self::Resource),
            NotifyClass::Software => Some(Self::Software),
            // Of messages, not of sessions.
            NotifyClass::Bounce | NotifyClass::DoubleBounce | NotifyClass::Delay => None,
        }
    }

    /// The word of `notify-classes`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Protocol => "protocol",
            Self::Data => "data",
            Self::Resource => "resource",
            Self::Software => "software",
        }
    }

    /// Whose fault it is that the gateway refuses something; `None` where nobody need look at it: time is up, another
    /// server's trouble, or an honest client that is only to come again.
    #[must_use]
    pub const fn of_refusal(refusal: &Refusal) -> Option<Self> {
        use Refusal as R;
        match refusal {
            R::Command(_)
            | R::Sender(_)
            | R::Recipient(_)
            | R::LineTooLong
            | R::IllegalOctets
            | R::BadSequence
            | R::NoRecipient
            | R::Utf8Undeclared
            | R::UnknownParameter
            | R::NotOffered(_)
            | R::EarlyTalk
            | R::TooManyErrors => Some(Self::Protocol),
            R::TooManyRecipients
            | R::MessageTooLarge
            | R::AddressLiteral
            | R::NoDomain
            | R::Virus { .. }
            | R::Spam { .. }
            | R::SpamSuspected
            | R::TooLargeToScan
            | R::TooLargeToScanNow
            | R::Filtered(_)
            | R::EncryptionRequired
            | R::AuthRequired
            | R::Listed { .. }
            | R::SenderListed { .. }
            | R::ListedNow { .. }
            | R::SpfFail { .. }
            | R::OverQuota { .. }
            | R::TakeoverEnds
            | R::Locked { .. }
            | R::LaneRejects => Some(Self::Policy),
            R::MalformedText | R::TooManyHops => Some(Self::Data),
            R::NoSpace
            | R::SpoolFailed
            | R::Shortage
            | R::TooManySessions
            | R::TooManySessionsOfClient
            | R::TooManySessionsOfIdentity
            | R::TooManySessionsOfPrefix
            | R::SystemLoad => Some(Self::Resource),
            R::ScannerFailed
            | R::NotScannable
            | R::CheckFailed
            | R::NotIntroduced
            | R::LookupTimeout
            | R::LookupMismatch
            | R::LookupFailed
            | R::MalformedDestination => Some(Self::Software),
            R::Utf8Unsupported
            | R::Query(_)
            | R::Greylisted
            | R::EncryptionMissing
            | R::SpfTempError
            | R::ConnectTimeout
            | R::ConnectFailed
            | R::ServerSilent
            | R::ServerLost
            | R::ServerStalled
            | R::ServerProtocol
            | R::Server(_)
            | R::ClientTimeout
            | R::SessionTimeout
            | R::ShuttingDown
            | R::Ended => None,
        }
    }
}
