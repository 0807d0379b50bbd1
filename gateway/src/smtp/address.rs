//! The path in MAIL and RCPT (RFC 5321 section 4.1.2).
//!
//! Owns where a path begins and ends. Never looks into a local part: it is opaque
//! (RFC 5321 section 2.3.11).

/// The longest path taken. RFC 5321 section 4.5.3.1.3 asks for 256 and for tolerance.
pub const MAX_PATH: usize = 512;

/// A path without its angle brackets; empty for `<>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path(String);

/// Why a path is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// No closing angle bracket, an open quote, or something before the bracket.
    #[error("the path is not in angle brackets")]
    Syntax,
    /// Longer than [`MAX_PATH`].
    #[error("the path is too long")]
    TooLong,
    /// A source route (RFC 5321 appendix C); nobody needs one, and relays were abused by them.
    #[error("the path has a source route")]
    Route,
    /// Not ASCII and not UTF-8 either.
    #[error("the path is not UTF-8")]
    NotUtf8,
}

impl Path {
    /// Reads the path at the head of `text`; returns it and what follows it.
    ///
    /// Angle brackets may be missing, as some clients do: the path then ends at a space.
    ///
    /// # Errors
    ///
    /// [`PathError`] says what is wrong.
    pub fn parse(text: &[u8]) -> Result<(Self, &[u8]), PathError> {
        let (path, rest) = match text.strip_prefix(b"<") {
            Some(inner) => bracketed(inner)?,
            None => {
                let end = memchr::memchr(b' ', text).unwrap_or(text.len());
                let (path, rest) = text.split_at_checked(end).ok_or(PathError::Syntax)?;
                if path.is_empty() || path.iter().any(|octet| b"<>\"\\".contains(octet)) {
                    return Err(PathError::Syntax);
                }
                (path, rest)
            }
        };
        if !rest.is_empty() && !rest.starts_with(b" ") {
            return Err(PathError::Syntax);
        }
        if path.len() > MAX_PATH {
            return Err(PathError::TooLong);
        }
        if path.starts_with(b"@") {
            return Err(PathError::Route);
        }
        let path = std::str::from_utf8(path).map_err(|_| PathError::NotUtf8)?;
        Ok((Self(path.to_owned()), rest))
    }

    /// The path without its angle brackets.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The domain behind the last `@`; none where there is no `@`.
    #[must_use]
    pub fn domain(&self) -> Option<&str> {
        self.0.rsplit_once('@').map(|(_, domain)| domain).filter(|_| !self.0.ends_with('"'))
    }

    /// The path with its local part as it is meant: without the quotes and backslashes by which RFC 5321
    /// section 4.1.2 writes it. `None` where these are out of place.
    #[must_use]
    pub fn unquoted(&self) -> Option<String> {
        let Some(quoted) = self.0.strip_prefix('"') else {
            return (!self.0.contains(['"', '\\'])).then(|| self.0.clone());
        };
        let mut local = String::with_capacity(self.0.len());
        let mut rest = quoted.chars();
        loop {
            match rest.next()? {
                '"' => break,
                '\\' => local.push(rest.next()?),
                character => local.push(character),
            }
        }
        let domain = rest.as_str();
        // Without a domain, an `@` in the local part would pass for the one before it.
        let goes_on = domain.starts_with('@') && !domain.contains(['"', '\\']);
        goes_on.then(|| format!("{local}{domain}"))
    }

    /// Whether it needs SMTPUTF8 (RFC 6531).
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.0.is_ascii()
    }
}

/// The path up to its closing bracket, which is not inside a quoted string.
fn bracketed(inner: &[u8]) -> Result<(&[u8], &[u8]), PathError> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, octet) in inner.iter().enumerate() {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => {
                let (path, rest) = inner.split_at_checked(at).ok_or(PathError::Syntax)?;
                return Ok((path, rest.get(1..).unwrap_or_default()));
            }
            b'<' | b' ' | b'\t' if !quoted => return Err(PathError::Syntax),
            _ => {}
        }
    }
    Err(PathError::Syntax)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Result<(String, String), PathError> {
        Path::parse(text.as_bytes()).map(|(path, rest)| (path.0, String::from_utf8_lossy(rest).into_owned()))
    }

    #[test]
    fn the_local_part_is_opaque() {
        for text in
            ["u%victim.test@our.test", "victim.test!u@our.test", "\"u@victim.test\"@our.test", "\"a>b\"@c.d"]
        {
            assert_eq!(path(&format!("<{text}> X=1")), Ok((text.to_owned(), " X=1".to_owned())));
        }
        assert_eq!(path("<>"), Ok((String::new(), String::new())));
    }

    #[test]
    fn a_missing_bracket_pair_is_forgiven_half_of_it_is_not() {
        assert_eq!(path("a@b SIZE=1"), Ok(("a@b".to_owned(), " SIZE=1".to_owned())));
        assert_eq!(path("<a@b"), Err(PathError::Syntax));
        assert_eq!(path("a@b>"), Err(PathError::Syntax));
        assert_eq!(path("<a@b>c"), Err(PathError::Syntax));
        assert_eq!(path("\"Joe\" <a@b>"), Err(PathError::Syntax));
        assert_eq!(path(""), Err(PathError::Syntax));
        assert_eq!(path("<a b@c>"), Err(PathError::Syntax));
    }

    #[test]
    fn source_routes_and_endless_paths_are_refused() {
        assert_eq!(path("<@hosta.test,@hostb.test:u@c.test>"), Err(PathError::Route));
        assert_eq!(path(&format!("<{}@b.test>", "a".repeat(600))), Err(PathError::TooLong));
    }
}
