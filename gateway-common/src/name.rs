//! Names of the program, its maps and its global values in the object file.

/// The program. The kernel keeps 15 characters; it shows them where the loader could name it.
pub const PROGRAM: &str = "gateway_ingress";
/// The program for packets that go out.
pub const EGRESS_PROGRAM: &str = "gateway_egress";
/// The program that is asked where the stack looks for a listener.
pub const LISTENER_PROGRAM: &str = "gateway_listener";
/// Global value that holds [`crate::ABI_VERSION`]: a section, and so a map, of its own.
pub const ABI: &str = ".rodata.abi";
/// One [`crate::settings::Settings`].
pub const SETTINGS: &str = "SETTINGS";
/// [`crate::interface::Interface`] by interface number.
pub const INTERFACES: &str = "INTERFACES";
/// The intercepted ports: see [`crate::port`].
pub const PORTS: &str = "PORTS";
/// [`crate::lane::Entry`] by client prefix.
pub const CLIENT_LANES: &str = "CLIENT_LANES";
/// [`crate::lane::Entry`] by server prefix.
pub const SERVER_LANES: &str = "SERVER_LANES";
/// The listening sockets, one for each IP version.
pub const LISTENERS: &str = "LISTENERS";
/// [`crate::flow::FlowNote`] by [`crate::flow::FlowKey`].
pub const FLOWS: &str = "FLOWS";
/// [`crate::translation::Translation`] by [`crate::flow::FlowKey`].
pub const TRANSLATIONS: &str = "TRANSLATIONS";
/// Packets by [`crate::reason::Reason`].
pub const COUNTERS: &str = "COUNTERS";
/// Ring buffer of [`crate::event::Event`].
pub const EVENTS: &str = "EVENTS";
/// Ring buffer of [`crate::caught::Caught`].
pub const CAUGHT: &str = "CAUGHT";
/// [`crate::quarantine::Lock`] by client prefix.
pub const LOCKS: &str = "LOCKS";
/// Client prefixes that no lock touches.
pub const EXEMPT: &str = "EXEMPT";
/// [`crate::client::Account`] by client.
pub const CLIENTS: &str = "CLIENTS";
/// [`crate::client::Report`] by client.
pub const REPORTS: &str = "REPORTS";
/// Numbers of limits by client prefix.
pub const CLASSES: &str = "CLASSES";
/// [`crate::client::Limits`] by number.
pub const LIMITS: &str = "LIMITS";
/// One [`crate::client::Book`].
pub const BOOK: &str = "BOOK";

/// The maps with what is known of clients and flows: they outlive the process, and the next gateway
/// goes on with them. All others are made and filled by each.
pub const STATE: [&str; 4] = [TRANSLATIONS, LOCKS, CLIENTS, REPORTS];
