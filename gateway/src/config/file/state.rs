//! Where it is kept what clients have used, and who is locked: `state`, `redis`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ScannerAddress, Secret};

/// Where it is kept what clients have used, and who is locked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// In the file in `state-directory`: this gateway counts for itself, and its locks are its own.
    #[default]
    Embedded,
    /// In Redis, or a server that speaks its protocol: all gateways with the same server and `prefix`
    /// count for the same quotas, and have the same locks and the same exemptions that operators make.
    /// Each keeps the locks in its own file, too. Without the server each counts for itself and goes on
    /// with the locks that it knows until it is back.
    Redis,
}

/// The server of `state: redis`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Redis {
    /// Where it listens: `tcp:127.0.0.1:6379` or `unix:/run/redis/redis-server.sock`. What is sent there
    /// is not encrypted.
    pub address: RedisAddress,
    /// Number of its database.
    pub database: u16,
    /// Account (ACL) to log in with; empty: the default one.
    pub user: String,
    /// Password, where the server wants one.
    pub password: Option<Secret>,
    /// What the names of keys begin with.
    pub prefix: String,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            address: RedisAddress(ScannerAddress::Tcp(([127, 0, 0, 1], 6379).into())),
            database: 0,
            user: String::new(),
            password: None,
            prefix: "gateway:".to_owned(),
        }
    }
}

/// Where Redis listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^(unix:/.*|tcp:.*:[0-9]+)$"))]
pub struct RedisAddress(pub ScannerAddress);

impl TryFrom<String> for RedisAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        ScannerAddress::try_from(text.clone()).map(Self).map_err(|_| {
            format!(
                "`{text}` is not the address of a server; write for example `tcp:127.0.0.1:6379` or \
                 `unix:/run/redis/redis-server.sock`"
            )
        })
    }
}

impl From<RedisAddress> for String {
    fn from(address: RedisAddress) -> Self {
        address.0.into()
    }
}
