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

    fn cells(&self) -> [String; 4] {
        let (Ok(happened) | Err(happened)) = &self.happened;
        let verdict = if self.passed() { "ok" } else { "FAILED" };
        [self.sent, self.expected, happened, verdict].map(shortened)
    }
}

/// Widest a column becomes.
const WIDEST: usize = 76;

fn shortened(text: &str) -> String {
    if text.chars().count() <= WIDEST {
        return text.to_owned();
    }
    text.chars().take(WIDEST - 1).chain(['…']).collect()
}

/// The table, line by line, each column as wide as its widest cell; below it, what failed in full.
pub(crate) fn lines(rows: &[Row]) -> Vec<String> {
    let heading = ["sent", "expected", "happened", ""].map(str::to_owned);
    let cells: Vec<_> = rows.iter().map(Row::cells).collect();
    let mut widths = [0; 4];
    for row in cells.iter().chain([&heading]) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String; 4]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let rule = widths.map(|width| "-".repeat(width));
    let mut lines = vec![line(&heading), line(&rule)];
    lines.extend(cells.iter().map(line));
    let failures = rows.iter().filter_map(|row| Some((row.sent, row.happened.as_ref().err()?)));
    lines.extend(failures.map(|(sent, why)| format!("{sent}: {why}")));
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
                "EICAR: 250",
            ]
        );
    }
}
