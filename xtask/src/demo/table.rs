//! What was expected and what happened, as a table.

/// One check.
#[derive(Debug)]
pub(crate) struct Row {
    /// What was sent.
    pub(crate) sent: &'static str,
    /// What should happen.
    pub(crate) expected: &'static str,
    /// What happened, or why it is not known.
    pub(crate) happened: Result<String, String>,
}

impl Row {
    /// Whether what happened is what should happen.
    pub(crate) const fn passed(&self) -> bool {
        self.happened.is_ok()
    }

    fn cells(&self) -> [&str; 4] {
        let (Ok(happened) | Err(happened)) = &self.happened;
        [self.sent, self.expected, happened, if self.passed() { "ok" } else { "FAILED" }]
    }
}

/// The table, line by line, each column as wide as its widest cell.
pub(crate) fn lines(rows: &[Row]) -> Vec<String> {
    let heading = ["sent", "expected", "happened", ""];
    let mut widths = heading.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row.cells()) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: [&str; 4]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let rule = widths.map(|width| "-".repeat(width));
    let mut lines = vec![line(heading), line(rule.each_ref().map(String::as_str))];
    lines.extend(rows.iter().map(|row| line(row.cells())));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            Row { sent: "clean", expected: "arrives", happened: Ok("arrived".to_owned()) },
            Row { sent: "EICAR", expected: "550", happened: Err("250".to_owned()) },
        ];
        assert_eq!(
            lines(&rows),
            [
                "sent   expected  happened",
                "-----  --------  --------  ------",
                "clean  arrives   arrived   ok",
                "EICAR  550       250       FAILED",
            ]
        );
    }
}
