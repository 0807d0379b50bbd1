//! From parameters to keys.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Source;
use super::expand::{Values, expand};
use super::parameter::{Here, PARAMETERS, Parameter};
use super::read::{Definition, Spot};
use super::value;
use crate::config::{Place, Problems, nearest};
use crate::import::yaml::Document;

const HEAD: &str =
    "Made by `gateway import main.cf`. Behind each key stands the parameter it was. Keys that are
left out have the gateway's defaults: see REFERENCE.md.";

/// Values of parameters that are not about delivery, where others refer to them.
const OTHERS: &[(&str, &str)] = &[
    ("command_directory", "/usr/sbin"),
    ("daemon_directory", "/usr/lib/postfix/sbin"),
    ("data_directory", "/var/lib/postfix"),
    ("default_database_type", "hash"),
    ("mail_name", "Postfix"),
    ("mail_owner", "postfix"),
    ("multi_instance_name", ""),
    ("myorigin", "$myhostname"),
    ("queue_directory", "/var/spool/postfix"),
];

/// Makes the document; what has no meaning here, or another one, is told in `problems`.
pub(super) fn convert(
    definitions: Vec<Definition>,
    sources: &[Source<'_>],
    problems: &mut [Problems],
) -> String {
    let mut given = BTreeMap::<String, Definition>::new();
    for definition in definitions {
        let Definition { name, spot, .. } = &definition;
        if let Some(before) = given.get(name).filter(|before| before.spot.file == spot.file) {
            let line = before.spot.place.line;
            let message = format!("`{name}` stands in line {line} too; this one counts");
            tell(sources, problems, *spot, Problems::warning, &message);
        }
        given.insert(name.clone(), definition);
    }
    let mut conversion =
        Conversion { given: &given, sources, problems, keys: Vec::new(), strangers: Vec::new() };
    // In the order of the manuals, those of LMTP behind those of SMTP.
    for parameter in PARAMETERS {
        conversion.parameter(parameter.name, parameter, false);
    }
    conversion.level("smtp_");
    for parameter in PARAMETERS {
        let mirror = parameter.name.strip_prefix("smtp_").map(|rest| format!("lmtp_{rest}"));
        if let Some(name) = mirror.filter(|name| Parameter::find(name).is_none()) {
            conversion.parameter(&name, parameter, true);
        }
    }
    conversion.level("lmtp_");
    conversion.strangers();
    conversion.document()
}

/// Tells of a place in one of the files.
fn tell(
    sources: &[Source<'_>],
    problems: &mut [Problems],
    spot: Spot,
    how: fn(&mut Problems, &str, Place, &str),
    message: &str,
) {
    if let (Some(source), Some(problems)) = (sources.get(spot.file), problems.get_mut(spot.file)) {
        how(problems, source.text, spot.place, message);
    }
}

struct Conversion<'c> {
    given: &'c BTreeMap<String, Definition>,
    sources: &'c [Source<'c>],
    problems: &'c mut [Problems],
    /// Keys, their values, and what they were.
    keys: Vec<(String, String, String)>,
    /// Parameters that are not about delivery, and where they stand.
    strangers: Vec<(Spot, String)>,
}

impl Values for BTreeMap<String, Definition> {
    fn value(&self, name: &str) -> Option<String> {
        if let Some(definition) = self.get(name) {
            return Some(definition.value.clone());
        }
        if name == "mydomain" {
            let host = self.get("myhostname")?;
            return host.value.split_once('.').map(|(_, domain)| domain.to_owned());
        }
        let known = Parameter::find(name).or_else(|| Parameter::mirrored(name));
        match known {
            Some(parameter) => parameter.default.map(str::to_owned),
            None => OTHERS.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned()),
        }
    }
}

impl Conversion<'_> {
    fn error(&mut self, spot: Spot, message: &str) {
        tell(self.sources, self.problems, spot, Problems::error, message);
    }

    fn warning(&mut self, spot: Spot, message: &str) {
        tell(self.sources, self.problems, spot, Problems::warning, message);
    }

    /// Converts one parameter, if the file sets it.
    fn parameter(&mut self, name: &str, parameter: &Parameter, lmtp: bool) {
        let Some(definition) = self.given.get(name) else { return };
        let spot = definition.spot;
        match parameter.here {
            Here::Key(key) | Here::Noted(key, _) => self.key(definition, parameter, key, lmtp),
            Here::Older(key) => {
                let newer = if lmtp { "lmtp_tls_policy_maps" } else { "smtp_tls_policy_maps" };
                if self.given.contains_key(newer) {
                    self.warning(spot, &format!("`{name}` is left out: `{newer}` counts"));
                } else {
                    self.warning(spot, &format!("`{name}` is obsolete; `{newer}` says more"));
                    self.key(definition, parameter, key, lmtp);
                }
            }
            Here::Alias(newer) => {
                if self.given.contains_key(newer) {
                    self.warning(spot, &format!("`{name}` is left out: `{newer}` counts"));
                } else if let Some(Parameter { here: Here::Key(key), .. }) = Parameter::find(newer) {
                    self.warning(spot, &format!("`{name}` is an older name of `{newer}`"));
                    self.key(definition, parameter, key, lmtp);
                }
            }
            Here::General(own) => self.general(definition, parameter, own),
            Here::TlsLevel => {}
            Here::Obsolete(why) => self.warning(spot, &format!("`{name}` is obsolete and left out: {why}")),
            Here::Nothing(why) => self.warning(spot, &format!("`{name}` is left out: {why}")),
            Here::Impossible(why) => {
                if self.expanded(definition).is_some_and(|value| !value.is_empty()) {
                    self.error(spot, &format!("`{name}` cannot be kept: {why}"));
                }
            }
            Here::Never(why) => {
                if self.expanded(definition).is_some_and(|value| !value.eq_ignore_ascii_case("no")) {
                    self.warning(spot, &format!("`{name}` is left out, as with `no`: {why}"));
                }
            }
            Here::ReadOnly => self.error(spot, &format!("`{name}` cannot be set; remove the line")),
        }
    }

    /// Converts what counts for SMTP and for LMTP as far as these have nothing of their own.
    fn general(&mut self, definition: &Definition, parameter: &Parameter, own: &str) {
        let Some(Parameter { here: Here::Key(key), .. }) = Parameter::find(own) else { return };
        let is_given = |protocol: &str| {
            own.strip_prefix("smtp_")
                .is_some_and(|rest| self.given.contains_key(&format!("{protocol}_{rest}")))
        };
        match (is_given("smtp"), is_given("lmtp")) {
            // What SMTP has counts for LMTP, too.
            (false, _) => self.key(definition, parameter, key, false),
            (true, false) => self.key(definition, parameter, key, true),
            (true, true) => {}
        }
    }

    /// The value with all names replaced; what is wrong with it is told.
    fn expanded(&mut self, definition: &Definition) -> Option<String> {
        match expand(&definition.value, self.given) {
            Ok(value) => Some(value.trim().to_owned()),
            Err(error) => {
                self.error(definition.spot, &format!("`{}`: {error}", definition.name));
                None
            }
        }
    }

    fn key(&mut self, definition: &Definition, parameter: &Parameter, key: &str, lmtp: bool) {
        let Some(text) = self.expanded(definition) else { return };
        let Definition { name, spot, .. } = definition;
        match value::value(parameter.kind, &text) {
            Err(wanted) => {
                self.error(*spot, &format!("`{text}` is no value of `{name}`: it takes {wanted}"));
            }
            Ok(value) => {
                if let Some(warning) = value.warning {
                    self.warning(*spot, &format!("`{name}`: {warning}"));
                }
                if let Some(yaml) = value.yaml {
                    self.keys.push((within(key, lmtp), yaml, name.clone()));
                }
            }
        }
    }

    /// The security level that the three switches of Postfix 2.2 stand for, where nothing newer does.
    fn level(&mut self, prefix: &str) {
        let all = self.given;
        let given = |rest: &str| all.get(&format!("{prefix}{rest}"));
        let is_set = given("tls_security_level").is_some_and(|level| !level.value.trim().is_empty());
        let switches = ["use_tls", "enforce_tls", "tls_enforce_peername"].map(given);
        let Some(spot) = switches.iter().flatten().map(|definition| definition.spot).next() else { return };
        let mut on = [false, false, true];
        for (switch, on) in switches.iter().zip(&mut on) {
            let Some(definition) = switch else { continue };
            let Some(text) = self.expanded(definition) else { return };
            match text.to_ascii_lowercase().as_str() {
                "yes" => *on = true,
                "no" => *on = false,
                _ => {
                    let message =
                        format!("`{text}` is no value of `{}`: it takes `yes` or `no`", definition.name);
                    return self.error(definition.spot, &message);
                }
            }
        }
        let level = match on {
            [_, true, true] => "verify",
            [_, true, false] => "encrypt",
            [true, false, _] => "may",
            [false, false, _] => "none",
        };
        let newer = format!("{prefix}tls_security_level");
        if is_set {
            return self.warning(spot, &format!("this switch is left out: `{newer}` counts"));
        }
        self.warning(spot, &format!("this switch is obsolete; it becomes `{newer} = {level}`"));
        let key = within("delivery.starttls.tls-security-level", prefix == "lmtp_");
        self.keys.push((key, level.to_owned(), format!("{prefix}use_tls, {prefix}enforce_tls")));
    }

    /// Tells of parameters that are none of smtp(8).
    fn strangers(&mut self) {
        let known = |name: &str| Parameter::find(name).is_some() || Parameter::mirrored(name).is_some();
        for (name, definition) in self.given {
            if known(name) {
                continue;
            }
            if name.starts_with("smtp_") || name.starts_with("lmtp_") || name.starts_with("tls_") {
                let near = nearest(name, PARAMETERS.iter().map(|parameter| parameter.name));
                let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                self.warning(definition.spot, &format!("`{name}` is not understood and left out{hint}"));
            } else {
                self.strangers.push((definition.spot, name.clone()));
            }
        }
        self.strangers.sort_by_key(|(spot, _)| (spot.file, spot.place.line));
        if !self.strangers.is_empty() {
            let count = self.strangers.len();
            let message = format!(
                "{count} parameters are not about delivery and left out; the result's head names them"
            );
            self.warning(Spot { file: 0, place: Place::NOWHERE }, &message);
        }
    }

    fn document(&self) -> String {
        let mut head = HEAD.to_owned();
        if !self.strangers.is_empty() {
            head.push_str("\n\nNot about delivery, and left out:");
            for (spot, name) in &self.strangers {
                let file = self.sources.get(spot.file).filter(|_| self.sources.len() > 1);
                let file = file.map(|source| format!("{}, ", source.name)).unwrap_or_default();
                // Writing to a `String` cannot fail.
                write!(head, "\n  {file}line {}: {name}", spot.place.line).unwrap_or_default();
            }
        }
        let mut document = Document::new(&head);
        for (key, value, was) in &self.keys {
            document.set(key, value, was);
        }
        document.finish()
    }
}

/// The key of LMTP's own value, or that of both protocols.
fn within(key: &str, lmtp: bool) -> String {
    match key.strip_prefix("delivery.").filter(|_| lmtp) {
        Some(rest) => format!("delivery.lmtp.{rest}"),
        None => key.to_owned(),
    }
}
