//! The connection to Redis: one round trip at a time, each with a deadline.

use std::time::Duration;

use redis::{Connection, ConnectionAddr, ConnectionInfo, Pipeline, RedisConnectionInfo};

use crate::config::file::{Redis as Settings, ScannerAddress};
use crate::store::Error;

/// Until Redis has accepted a connection, and until it has answered.
const PATIENCE: Duration = Duration::from_secs(2);

/// A connection, made when there is something to be said.
pub(super) struct Link {
    settings: Settings,
    connection: Option<Connection>,
}

impl Link {
    pub(super) const fn new(settings: Settings) -> Self {
        Self { settings, connection: None }
    }

    /// What the names of all keys begin with.
    pub(super) fn prefix(&self) -> &str {
        &self.settings.prefix
    }

    fn failed(&self, source: redis::RedisError) -> Error {
        Error::Redis { address: String::from(self.settings.address.clone()), source }
    }

    fn connect(&self) -> redis::RedisResult<Connection> {
        let address = match &self.settings.address.0 {
            ScannerAddress::Tcp(address) => ConnectionAddr::Tcp(address.ip().to_string(), address.port()),
            ScannerAddress::Unix(path) => ConnectionAddr::Unix(path.clone()),
        };
        let mut login = RedisConnectionInfo::default().set_db(self.settings.database.into());
        if !self.settings.user.is_empty() {
            login = login.set_username(&self.settings.user);
        }
        if let Some(password) = &self.settings.password {
            login = login.set_password(password.reveal());
        }
        let info: ConnectionInfo = redis::IntoConnectionInfo::into_connection_info(address)?;
        let connection =
            redis::Client::open(info.set_redis_settings(login))?.get_connection_with_timeout(PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        Ok(connection)
    }

    /// Carries out one round trip; a connection that fails is not used again.
    pub(super) fn query<T: redis::FromRedisValue>(&mut self, pipeline: &Pipeline) -> Result<T, Error> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().map_err(|error| self.failed(error))?,
        };
        let answer = pipeline.query(&mut connection).map_err(|error| self.failed(error))?;
        self.connection = Some(connection);
        Ok(answer)
    }
}
