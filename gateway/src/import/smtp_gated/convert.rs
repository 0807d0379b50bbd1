//! From options to keys: what all parts of the conversion stand on, and their order.

mod operator;
mod origin;
mod quotas;
mod scan;
mod session;

use std::collections::BTreeMap;

use super::option::{Here, OPTIONS, Opt};
use super::read::{self, Given, Value};
use crate::config::{Place, Problems};
use crate::import::yaml::{self, Document};

const HEAD: &str =
    "Made by `gateway import smtp-gated`. Behind each key stands the option it was. Keys that are
left out have the gateway's defaults: see REFERENCE.md.";

/// Makes the document; what has no meaning here, or another one, is told in `problems`.
pub(super) fn convert(given: &BTreeMap<&'static str, Given>, text: &str, problems: &mut Problems) -> String {
    let mut conversion = Conversion { given, text, problems, document: Document::new(HEAD) };
    conversion.tell();
    conversion.main();
    conversion.mode();
    conversion.limits();
    conversion.quotas();
    conversion.timeouts();
    conversion.spool();
    conversion.scan();
    conversion.filters();
    conversion.block_lists();
    conversion.locks();
    conversion.spf();
    conversion.nat_header();
    conversion.messages();
    conversion.log();
    conversion.state_file();
    conversion.process();
    conversion.document.finish()
}

struct Conversion<'c> {
    given: &'c BTreeMap<&'static str, Given>,
    text: &'c str,
    problems: &'c mut Problems,
    document: Document,
}

fn option(name: &str) -> Option<&'static Opt> {
    OPTIONS.iter().find(|option| option.name == name)
}

impl Conversion<'_> {
    /// Tells of every option of the file that is nothing here.
    fn tell(&mut self) {
        for (name, given) in self.given {
            let why = match option(name).map(|option| option.here) {
                Some(Here::Nothing(why)) => format!("`{}` is left out: {why}", given.name),
                Some(Here::Keys(_) | Here::Alias(_)) | None => continue,
            };
            self.problems.warning(self.text, given.place, &why);
        }
    }

    fn warn(&mut self, name: &str, message: &str) {
        let place = self.given.get(name).map_or(Place::NOWHERE, |given| given.place);
        self.problems.warning(self.text, place, message);
    }

    /// Refuses the value of an option.
    fn refuse(&mut self, name: &str, message: &str) {
        let place = self.given.get(name).map_or(Place::NOWHERE, |given| given.place);
        self.problems.error(self.text, place, message);
    }

    fn value(&self, name: &str) -> Option<Value> {
        match self.given.get(name) {
            Some(given) => Some(given.value.clone()),
            None => option(name).and_then(read::default),
        }
    }

    fn number(&self, name: &str) -> i64 {
        if let Some(Value::Number(number)) = self.value(name) { number } else { 0 }
    }

    fn flag(&self, name: &str) -> bool {
        matches!(self.value(name), Some(Value::Flag(true)))
    }

    /// A text or an address; empty where there is none.
    fn text(&self, name: &str) -> String {
        match self.value(name) {
            Some(Value::Text(text)) => text,
            Some(Value::Address(address)) => address.to_string(),
            _ => String::new(),
        }
    }

    fn words(&self, name: &str) -> Vec<&'static str> {
        if let Some(Value::Words(words)) = self.value(name) { words } else { Vec::new() }
    }

    fn set(&mut self, key: &str, value: &str, was: &str) {
        self.document.set(key, value, was);
    }

    /// A number with a fraction, as it is written.
    fn decimal(&self, name: &str) -> String {
        if let Some(Value::Fraction(number)) = self.value(name) { number.to_string() } else { "0".to_owned() }
    }

    /// A load average, which 0 and less switch off.
    fn load(&self, name: &str) -> String {
        let load = self.decimal(name);
        if load.starts_with('-') { "0".to_owned() } else { load }
    }

    /// Carries a number of octets over.
    fn size(&mut self, name: &str, key: &str) {
        let octets = self.number(name);
        self.set(key, &if octets <= 0 { "0".to_owned() } else { format!("{octets}B") }, name);
    }

    fn main(&mut self) {
        let name = self.text("proxy_name");
        if name != "*" {
            self.set("name", &yaml::string(&name), "proxy_name");
        }
        let outgoing = self.text("outgoing_addr");
        if outgoing != "0.0.0.0" {
            self.set("gateway-addresses.ipv4", &outgoing, "outgoing_addr");
        }
        let user = self.text("set_user");
        if !user.is_empty() {
            self.set("user", &yaml::string(&user), "set_user");
        }
    }
}
