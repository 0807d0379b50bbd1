//! Whether a server is told by XCLIENT who its client is.

use crate::config::file::{Config, Origin, Xclient};
use crate::intercept::flow::Flow;
use crate::smtp::exchange::Introduction;

/// What the server of this flow is told. Only servers of the operator's own are: the others would
/// learn what they are not asked to believe.
#[must_use]
pub fn introduction(config: &Config, flow: &Flow) -> Option<Introduction> {
    let own = matches!(config.origin, Origin::Fixed | Origin::Proxy);
    let required = match config.inspect.xclient {
        Xclient::Off => return None,
        Xclient::IfOffered => false,
        Xclient::Required => true,
    };
    own.then_some(Introduction { client: flow.client.socket(), required })
}
