//! The account a process becomes.

use std::ffi::CString;

use nix::unistd::{Gid, Group, Uid, User};

/// Why an account cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not in the user database.
    #[error(
        "there is no account `{0}`; make it with `useradd --system --no-create-home --shell /usr/sbin/nologin {0}`, \
         or name another one in the configuration"
    )]
    Missing(String),
    /// Root, or in root's group.
    #[error("the account `{0}` has the power of root; the gateway must run as an account of its own")]
    Root(String),
    /// The group is not in the group database.
    #[error("there is no group `{0}`; make it with `groupadd --system {0}`, or change `process.group`")]
    NoGroup(String),
    /// The user database cannot be read.
    #[error("cannot look up the account `{name}`")]
    LookUp {
        /// The account's name.
        name: String,
        /// What the system said.
        #[source]
        source: nix::Error,
    },
    /// The change itself failed.
    #[error("cannot become `{name}`: {step}")]
    Assume {
        /// The account's name.
        name: String,
        /// The call that failed.
        step: &'static str,
        /// What the system said.
        #[source]
        source: nix::Error,
    },
}

/// An account that is not root, with all its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    name: String,
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
    group: Option<String>,
}

impl Account {
    /// Looks an account up by name.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] with what to do about it; [`Error::Root`] for root and for whoever is in
    /// root's group.
    pub fn find(name: &str) -> Result<Self, Error> {
        let failed = |source| Error::LookUp { name: name.to_owned(), source };
        let user = User::from_name(name).map_err(failed)?;
        let user = user.ok_or_else(|| Error::Missing(name.to_owned()))?;
        let c_name = CString::new(name).map_err(|_| Error::Missing(name.to_owned()))?;
        let groups = nix::unistd::getgrouplist(&c_name, user.gid).map_err(failed)?;
        if user.uid.is_root() || groups.iter().any(|gid| gid.as_raw() == 0) {
            return Err(Error::Root(name.to_owned()));
        }
        Ok(Self { name: name.to_owned(), uid: user.uid, gid: user.gid, groups, group: None })
    }

    /// The same, with `group` for its first group; an empty name changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::NoGroup`], and [`Error::Root`] for root's own group.
    pub fn with_group(mut self, group: &str) -> Result<Self, Error> {
        if group.is_empty() {
            return Ok(self);
        }
        let failed = |source| Error::LookUp { name: group.to_owned(), source };
        let found = Group::from_name(group).map_err(failed)?;
        let found = found.ok_or_else(|| Error::NoGroup(group.to_owned()))?;
        if found.gid.as_raw() == 0 {
            return Err(Error::Root(self.name));
        }
        self.gid = found.gid;
        self.groups.push(found.gid);
        self.group = Some(found.name);
        Ok(self)
    }

    /// The name of the group it was given in place of its own.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its user id.
    #[must_use]
    pub const fn uid(&self) -> u32 {
        self.uid.as_raw()
    }

    /// Its first group.
    #[must_use]
    pub const fn gid(&self) -> u32 {
        self.gid.as_raw()
    }

    /// Becomes the account in all three ids, so that none is left to go back to.
    pub(super) fn assume(&self) -> Result<(), Error> {
        let failed = |step| move |source| Error::Assume { name: self.name.clone(), step, source };
        nix::unistd::setgroups(&self.groups).map_err(failed("setgroups"))?;
        nix::unistd::setresgid(self.gid, self.gid, self.gid).map_err(failed("setresgid"))?;
        nix::unistd::setresuid(self.uid, self.uid, self.uid).map_err(failed("setresuid"))
    }
}

/// Whether the process has root's user id.
#[must_use]
pub fn is_root() -> bool {
    Uid::effective().is_root()
}

/// Tries to become root. A process that can has become root by asking.
pub(super) fn can_become_root() -> bool {
    nix::unistd::setuid(Uid::from_raw(0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_that_is_missing_is_named_with_the_command_that_makes_it() {
        let error = Account::find("no-such-account").unwrap_err().to_string();
        assert!(error.contains("useradd --system"), "{error}");
        assert!(error.contains("`no-such-account`"), "{error}");
        assert!(matches!(Account::find("a\0b"), Err(Error::Missing(_) | Error::LookUp { .. })));
    }

    #[test]
    fn root_is_refused() {
        assert!(matches!(Account::find("root"), Err(Error::Root(_))));
    }

    #[test]
    fn an_ordinary_account_is_found_with_its_groups() {
        let account = Account::find("nobody").unwrap();
        assert_ne!(account.uid(), 0);
        assert!(account.groups.contains(&account.gid));
    }

    #[test]
    fn another_first_group_is_one_of_its_groups() {
        let plain = Account::find("nobody").unwrap();
        assert_eq!(plain.clone().with_group("").unwrap(), plain);
        let mail = plain.clone().with_group("mail").unwrap();
        assert_eq!(mail.group(), Some("mail"));
        assert_ne!(mail.gid(), plain.gid());
        assert!(mail.groups.contains(&mail.gid) && mail.groups.contains(&plain.gid));
        assert!(matches!(plain.clone().with_group("root"), Err(Error::Root(_))));
        assert!(matches!(plain.with_group("no-such-group"), Err(Error::NoGroup(_))));
    }
}
