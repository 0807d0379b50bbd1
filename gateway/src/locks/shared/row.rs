//! What stands in a row that gateways share.

use crate::config::file::Network;
use crate::locks::recent::Subject;
use crate::policy::lock::{DETAIL_LENGTH, Lock, LockTable, Who};
use crate::store::SharedRow;

/// What a row says.
#[derive(Debug)]
pub(super) enum Content {
    Lock(Option<Box<Lock>>),
    Exempt(bool),
}

impl Subject {
    /// Its name among gateways.
    pub(in crate::locks) fn name(&self) -> String {
        match self {
            Self::Lock(who) => format!("lock:{who}"),
            Self::Exempt(net) => format!("exempt:{}", Network(*net)),
        }
    }

    /// Only as [`Self::name`] writes it: a network has one name.
    pub(in crate::locks) fn read(name: &str) -> Option<Self> {
        let subject = match name.split_once(':')? {
            ("lock", who) => Self::Lock(Who::try_from(who.to_owned()).ok()?.trunc()),
            ("exempt", net) => Self::Exempt(Network::try_from(net.to_owned()).ok()?.0.trunc()),
            _ => return None,
        };
        (subject.name() == name).then_some(subject)
    }
}

impl Content {
    pub(super) fn read(row: SharedRow) -> Option<(Subject, u64, Self)> {
        let subject = Subject::read(&row.name)?;
        let content = match (&subject, row.value) {
            (Subject::Lock(_), None) => Self::Lock(None),
            (Subject::Exempt(_), value) => Self::Exempt(value.is_some()),
            (Subject::Lock(who), Some(value)) => {
                let mut lock: Lock = serde_json::from_str(&value).ok()?;
                lock.detail.truncate(lock.detail.floor_char_boundary(DETAIL_LENGTH));
                Self::Lock(Some(Box::new(Lock { who: who.clone(), changed: row.version, ..lock })))
            }
        };
        Some((subject, row.version, content))
    }

    /// Whether the table has it like that.
    pub(super) fn is_in(&self, table: &LockTable, subject: &Subject) -> bool {
        match (subject, self) {
            (Subject::Lock(who), Self::Lock(Some(lock))) => {
                table.get(who).is_some_and(|own| own.is_same(lock))
            }
            (Subject::Lock(who), _) => table.get(who).is_none(),
            (Subject::Exempt(net), content) => {
                table.exempted().contains(net) == matches!(content, Self::Exempt(true))
            }
        }
    }
}
