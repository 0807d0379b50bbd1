//! Addresses of this site as others see them (generic(5)): envelope and header, on delivery.
//!
//! Owns which keys an address has, and which fields hold addresses. A field in which nothing is
//! mapped stays as it is, octet for octet.

mod field;

use crate::table::Maps;

pub use field::{first_address, map_field};

/// The operator's mapping.
#[derive(Clone, Debug, Default)]
pub struct Generic {
    /// The tables (`generic-maps`).
    pub maps: Maps,
    /// Domains whose users are found without their domain.
    pub own_domains: Vec<String>,
    /// What is put behind a result without a domain.
    pub origin: String,
    /// What divides a user's name from an extension; none: there are no extensions.
    pub recipient_delimiter: Option<char>,
    /// Whether an extension that is not part of the key stays with the result.
    pub propagate_extension: bool,
}

impl Generic {
    /// The address that stands for `address`, if it is not itself. One pass: results are not looked up.
    #[must_use]
    pub fn map(&self, address: &str) -> Option<String> {
        if self.maps.is_empty() || address.is_empty() {
            return None;
        }
        let (local, domain) = address.rsplit_once('@').unwrap_or((address, &self.origin));
        let (user, extension) = self.divided(local);
        let own = self.own_domains.iter().any(|own| own.eq_ignore_ascii_case(domain));
        let whole = format!("{local}@{domain}");
        let plain = format!("{user}@{domain}");
        let at_domain = format!("@{domain}");
        // Each key, and whether it leaves the extension out.
        let mut keys = vec![(whole.as_str(), false)];
        if extension.is_some() {
            keys.push((&plain, true));
        }
        if own {
            keys.push((local, false));
            if extension.is_some() {
                keys.push((user, true));
            }
        }
        keys.push((&at_domain, false));
        // Patterns see the whole address, and only that.
        let names: Vec<&str> = keys.iter().map(|(key, _)| *key).collect();
        let (number, value) = self.maps.first_of(&names)?;
        let without = keys.get(number).is_some_and(|(_, without)| *without);
        let first = value.split([',', ' ', '\t']).find(|word| !word.is_empty())?;
        let result = self.completed(first, local, extension.filter(|_| without && self.propagate_extension));
        (result != address).then_some(result)
    }

    /// The user and what follows it, if there is an extension.
    fn divided<'l>(&self, local: &'l str) -> (&'l str, Option<&'l str>) {
        let at = self.recipient_delimiter.and_then(|delimiter| local.find(delimiter)).filter(|at| *at > 0);
        at.and_then(|at| local.split_at_checked(at)).map_or((local, None), |(user, rest)| (user, Some(rest)))
    }

    fn completed(&self, result: &str, local: &str, extension: Option<&str>) -> String {
        let (user, domain) = result.rsplit_once('@').unwrap_or((result, &self.origin));
        if user.is_empty() {
            return format!("{local}@{domain}");
        }
        format!("{user}{}@{domain}", extension.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::TableSpec;

    pub(super) fn generic(entries: &str, more: &[&str]) -> Generic {
        let mut specs = vec![format!("inline:{{{entries}}}")];
        specs.extend(more.iter().map(|spec| (*spec).to_owned()));
        let table = |spec: &String| spec.parse::<TableSpec>().unwrap().table("").unwrap();
        Generic {
            maps: Maps::new(specs.iter().map(table).collect()),
            own_domains: vec!["local.test".to_owned()],
            origin: "origin.test".to_owned(),
            recipient_delimiter: Some('+'),
            propagate_extension: false,
        }
    }

    // Specification section 10, generic(5).
    #[test]
    fn the_most_exact_key_decides() {
        let entries = "u+x@local.test=one@a.test, u@local.test=two@a.test, v+x=three@a.test, v=four@a.test, \
                       w=five, @local.test=@b.test, @c.test=all@d.test other@d.test, u@a.test=never@a.test";
        let generic = generic(entries, &[]);
        for (address, expected) in [
            ("u+x@local.test", Some("one@a.test")),
            ("U+y@Local.Test", Some("two@a.test")),
            ("v+x@local.test", Some("three@a.test")),
            ("v+y@local.test", Some("four@a.test")),
            ("w@local.test", Some("five@origin.test")),
            ("z+q@local.test", Some("z+q@b.test")),
            ("v@c.test", Some("all@d.test")),
            ("v@e.test", None),
            ("", None),
        ] {
            assert_eq!(generic.map(address).as_deref(), expected, "{address}");
        }
        let propagating = Generic { propagate_extension: true, ..generic };
        assert_eq!(propagating.map("u+y@local.test").as_deref(), Some("two+y@a.test"));
        assert_eq!(propagating.map("u+x@local.test").as_deref(), Some("one@a.test"));
    }

    // Specification section 10: patterns get the whole address once.
    #[test]
    fn patterns_see_whole_addresses() {
        let generic = generic("", &["pcre:{ {/^(.*)@local\\.test$/ $1@p.test}, {/^@/ never@p.test} }"]);
        assert_eq!(generic.map("u+x@local.test").as_deref(), Some("u+x@p.test"));
        assert_eq!(generic.map("u@e.test"), None);
    }
}
