//! Lets user space put the shared types into maps.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::client::{Account, Book, Limits, Report};
use crate::flow::{FlowKey, FlowNote};
use crate::interface::Interface;
use crate::lane::Entry;
use crate::quarantine::Lock;
use crate::settings::Settings;
use crate::translation::Translation;

/// Compiles only for types that are plain bytes in both directions.
const fn plain_bytes<T: FromBytes + IntoBytes + Immutable + Copy + 'static>() {}

macro_rules! pod {
    ($($type:ty),+ $(,)?) => {
        $(
            const _: () = plain_bytes::<$type>();
            // SAFETY: the line above compiles only if every byte pattern is a value of the type,
            // and every value is made of initialized bytes.
            unsafe impl aya::Pod for $type {}
        )+
    };
}

pod!(Account, Book, Entry, FlowKey, FlowNote, Interface, Limits, Lock, Report, Settings, Translation,);
