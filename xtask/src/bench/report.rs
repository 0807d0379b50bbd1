//! What was measured, for people and for machines.

use serde_json::{Map, Value, json};

/// One family: rows of one unit, and the row that the others are compared with.
#[derive(Debug)]
pub(crate) struct Report {
    /// The family's name.
    pub(crate) family: &'static str,
    /// What a row's values are.
    pub(crate) unit: &'static str,
    /// The yardstick's name.
    pub(crate) yardstick: &'static str,
    /// The rows, in the order of a round.
    pub(crate) rows: Vec<Row>,
}

/// One thing measured in every round.
#[derive(Debug)]
pub(crate) struct Row {
    /// What it is compared within: rows of the same group were measured under the same load. Empty
    /// where a family has but one.
    pub(crate) group: String,
    /// Its name.
    pub(crate) name: String,
    /// A value for each round.
    pub(crate) values: Vec<f64>,
    /// What else was measured, a value for each round.
    pub(crate) facts: Vec<(Fact, Vec<f64>)>,
}

/// Something measured beside the value of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fact {
    /// For people: a word or two.
    pub(crate) heading: &'static str,
    /// For machines.
    pub(crate) key: &'static str,
}

impl Row {
    /// A row that has no values yet.
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self { group: String::new(), name: name.into(), values: Vec::new(), facts: Vec::new() }
    }

    /// A row of a group.
    pub(crate) fn within(group: impl Into<String>, name: impl Into<String>) -> Self {
        Self { group: group.into(), ..Self::new(name) }
    }

    /// Its group and its name, as machines find it: `new-64.gateway`.
    pub(crate) fn path(&self) -> String {
        let dot = if self.group.is_empty() { "" } else { "." };
        format!("{}{dot}{}", self.group, self.name)
    }

    /// Adds what was measured in one round.
    pub(crate) fn add(&mut self, fact: Fact, value: f64) {
        match self.facts.iter_mut().find(|(other, _)| *other == fact) {
            Some((_, values)) => values.push(value),
            None => self.facts.push((fact, vec![value])),
        }
    }

    /// What as many rounds are below as above.
    pub(super) fn median(&self) -> f64 {
        median(&self.values)
    }
}

impl Report {
    /// What a row is of the yardstick: the median of all rounds.
    pub(super) fn ratio(&self, row: &Row) -> f64 {
        median(&self.ratios(row))
    }

    /// A row's values over the yardstick's of the same round each; none without a yardstick.
    pub(super) fn ratios(&self, row: &Row) -> Vec<f64> {
        let is_yardstick = |other: &&Row| other.group == row.group && other.name == self.yardstick;
        let Some(yardstick) = self.rows.iter().find(is_yardstick) else { return Vec::new() };
        row.values.iter().zip(&yardstick.values).map(|(value, other)| value / other).collect()
    }

    /// Lines for people.
    pub(crate) fn table(&self) -> Vec<String> {
        let mut lines = vec![
            String::new(),
            format!(
                "{} ({}; medians of {} rounds)",
                self.family,
                self.unit,
                self.rows.first().map_or(0, |row| row.values.len())
            ),
        ];
        let facts: Vec<Fact> =
            self.rows.first().map_or_else(Vec::new, |row| row.facts.iter().map(|(fact, _)| *fact).collect());
        let headings: String = facts.iter().map(|fact| format!(" {:>16}", fact.heading)).collect();
        let width = self.rows.iter().map(|row| row.path().len()).max().unwrap_or(0).max(16);
        lines.push(format!("{:<width$} {:>10} {:>20} {:>7}{headings}", "", "median", "spread", "ratio"));
        for row in &self.rows {
            let (low, high) = spread(&row.values);
            let facts: String =
                row.facts.iter().map(|(_, values)| format!(" {:>16.3}", median(values))).collect();
            lines.push(format!(
                "{:<width$} {:>10.2} {:>20} {:>7.2}{facts}",
                row.path(),
                row.median(),
                format!("{low:.2} to {high:.2}"),
                self.ratio(row),
            ));
        }
        lines
    }
}

/// All families as one object: `splice.handoff.ratio`, `inspect.new-64.gateway.ratio` and so on.
pub(crate) fn json(reports: &[Report]) -> String {
    let mut families = Map::new();
    for report in reports {
        let family = object(&mut families, report.family);
        for row in &report.rows {
            let (low, high) = spread(&row.values);
            let mut value = json!({
                "unit": report.unit,
                "median": row.median(),
                "spread": [low, high],
                "ratio": report.ratio(row),
                "rounds": row.values,
            });
            for (fact, values) in &row.facts {
                value[fact.key] = json!(median(values));
            }
            let group = if row.group.is_empty() { &mut *family } else { object(family, &row.group) };
            group.insert(row.name.clone(), value);
        }
    }
    format!("{:#}\n", Value::Object(families))
}

/// The object of this name within another, made when it is not there.
fn object<'m>(within: &'m mut Map<String, Value>, name: &str) -> &'m mut Map<String, Value> {
    let value = within.entry(name).or_insert_with(|| Value::Object(Map::new()));
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("it was made one")
}

/// The value that as many are below as above.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle.wrapping_sub(1)), values.get(middle)) {
        (Some(below), Some(above)) if values.len().is_multiple_of(2) => f64::midpoint(*below, *above),
        (_, Some(value)) => *value,
        _ => f64::NAN,
    }
}

/// The least and the most.
pub(super) fn spread(values: &[f64]) -> (f64, f64) {
    let fold = |pick: fn(f64, f64) -> f64| values.iter().copied().reduce(pick).unwrap_or(f64::NAN);
    (fold(f64::min), fold(f64::max))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let row = |name: &str, values: &[f64]| Row { values: values.to_vec(), ..Row::new(name) };
        Report {
            family: "splice",
            unit: "Gbit/s",
            yardstick: "forwarding",
            rows: vec![row("forwarding", &[10.0, 20.0, 10.0]), row("copy", &[5.0, 5.0, 4.0])],
        }
    }

    #[test]
    fn rounds_are_compared_with_the_yardstick_of_the_same_round() {
        let report = report();
        assert!((report.ratio(&report.rows[1]) - 0.4).abs() < 1e-9);
        assert!((report.ratio(&report.rows[0]) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn machines_find_a_ratio_by_family_and_row() {
        let read: Value = serde_json::from_str(&json(&[report()])).unwrap();
        assert_eq!(read["splice"]["copy"]["ratio"], 0.4);
        assert_eq!(read["splice"]["forwarding"]["unit"], "Gbit/s");
    }

    #[test]
    fn a_group_has_its_own_yardstick() {
        let row = |group: &str, name: &str, value| Row { values: vec![value], ..Row::within(group, name) };
        let rows = vec![
            row("new-8", "haproxy", 100.0),
            row("new-8", "gateway", 90.0),
            row("new-64", "haproxy", 200.0),
            row("new-64", "gateway", 220.0),
        ];
        let report = Report { family: "inspect", unit: "messages/s", yardstick: "haproxy", rows };
        let read: Value = serde_json::from_str(&json(&[report])).unwrap();
        assert_eq!(read["inspect"]["new-8"]["gateway"]["ratio"], 0.9);
        assert_eq!(read["inspect"]["new-64"]["gateway"]["ratio"], 1.1);
    }

    #[test]
    fn medians_of_even_and_odd_numbers() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median(&[]).is_nan());
    }
}
