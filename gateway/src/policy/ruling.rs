//! What holds when several checks have ruled on one step.

use crate::smtp::question::Ruling;

/// The strictest of `rulings`; the first among those that are equally strict.
#[must_use]
pub fn strictest(rulings: impl IntoIterator<Item = Ruling>) -> Ruling {
    rulings.into_iter().fold(Ruling::Pass, |strictest, ruling| {
        if severity(&ruling) > severity(&strictest) { ruling } else { strictest }
    })
}

const fn severity(ruling: &Ruling) -> u8 {
    match ruling {
        Ruling::Pass => 0,
        Ruling::Refuse(_) => 1,
        Ruling::Takeover(_) => 2,
        Ruling::Close(_) => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::refusal::Refusal;

    #[test]
    fn the_strictest_holds_and_of_equals_the_first() {
        let first = Ruling::Takeover(Refusal::LaneRejects);
        let second = Ruling::Takeover(Refusal::CheckFailed);
        let refuse = Ruling::Refuse(Refusal::CheckFailed);
        assert_eq!(strictest([]), Ruling::Pass);
        assert_eq!(strictest([Ruling::Pass, refuse.clone()]), refuse);
        assert_eq!(strictest([refuse, first.clone(), second]), first);
    }
}
