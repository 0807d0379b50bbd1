//! The machine's load average.

use crate::config::decimal::Decimal;

/// What the kernel's fixed-point numbers of `sysinfo(2)` are multiples of, as a power of two.
const SHIFT: u32 = 16;

/// The load average of the last minute (`sysinfo(2)`, `loads`).
#[must_use]
pub fn average() -> Decimal {
    let [minute, ..] = rustix::system::sysinfo().loads;
    decimal(minute)
}

/// Whether `load` is above the ceiling `most`, which 0 switches off.
#[must_use]
pub fn is_above(load: Decimal, most: Decimal) -> bool {
    most > Decimal::default() && load > most
}

fn decimal(fixed: u64) -> Decimal {
    let unit = 1u64.checked_shl(SHIFT).unwrap_or(1);
    let hundredths = fixed.saturating_mul(100).div_euclid(unit);
    Decimal::hundredths(i64::try_from(hundredths).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_read_in_hundredths_and_a_ceiling_of_0_is_none() {
        assert_eq!(decimal(65_536).to_string(), "1");
        assert_eq!(decimal(98_304).to_string(), "1.5");
        assert!(is_above(decimal(98_304), Decimal::whole(1)));
        assert!(!is_above(decimal(65_536), Decimal::whole(1)));
        assert!(!is_above(decimal(u64::MAX), Decimal::default()));
    }

    #[test]
    fn the_kernel_says_what_proc_says() {
        let said = average();
        let proc = std::fs::read_to_string("/proc/loadavg").unwrap();
        let proc: f64 = proc.split(' ').next().unwrap().parse().unwrap();
        // It may have been renewed between the two.
        let near = [-1.0, 1.0].map(|off| Decimal::nearest(proc + off).unwrap());
        assert!(near[0] < said && said < near[1], "{said} {proc}");
    }
}
