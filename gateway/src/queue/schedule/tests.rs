use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::clock;

const TROUBLE: Showed<&str> = Showed::Trouble("refused");
const HEALTH: Showed<&str> = Showed::Health;

fn limits() -> Limits {
    Limits {
        concurrency: Concurrency::default(),
        recipients: 50,
        dead: Duration::from_secs(300),
        rate_delay: Duration::ZERO,
    }
}

fn job(message: u32, recipients: u32) -> Job {
    Job { message: QueueId::new(1, message), recipients: (0..recipients).collect() }
}

/// The destinations of the next deliveries, `-` where there is none.
fn begin(schedule: &mut Schedule<&'static str>, count: usize, now: Instant) -> String {
    let names = (0..count).map(|_| {
        schedule.next(now).map_or_else(|| "-".to_owned(), |delivery| delivery.destination.to_string())
    });
    names.collect::<Vec<_>>().join(" ")
}

// Specification section 17.4.
#[test]
fn destinations_take_turns() {
    let (now, limits) = (clock::now(), Arc::new(limits()));
    let mut schedule = Schedule::new(100);
    for (destination, jobs) in [("a", 3), ("b", 1), ("c", 2)] {
        for number in 0..jobs {
            schedule.add(destination, &limits, job(number, 1), now).unwrap();
        }
    }
    assert_eq!(begin(&mut schedule, 7, now), "a b c a c a -");
}

// Specification section 17.4: small messages overtake big lists.
#[test]
fn messages_to_one_destination_take_turns_with_as_many_recipients_as_a_delivery_takes() {
    let now = clock::now();
    let limits = Arc::new(Limits { recipients: 2, ..limits() });
    let mut schedule = Schedule::<&str>::new(100);
    schedule.add("a", &limits, job(1, 5), now).unwrap();
    schedule.add("a", &limits, job(2, 1), now).unwrap();
    assert_eq!(schedule.waiting(), 6);
    let taken: Vec<_> = std::iter::from_fn(|| schedule.next(now))
        .map(|delivery| (delivery.job.message, Vec::from(delivery.job.recipients), delivery.more))
        .collect();
    let id = |message| QueueId::new(1, message);
    let expected = [
        (id(1), vec![0, 1], true),
        (id(2), vec![0], true),
        (id(1), vec![2, 3], true),
        (id(1), vec![4], false),
    ];
    assert_eq!(taken, expected);
    assert_eq!((schedule.waiting(), schedule.busy()), (0, 4));
}

// Specification section 17.3.
#[test]
fn a_destination_has_as_many_deliveries_as_its_window_and_half_of_the_places_allow() {
    let (now, limits) = (clock::now(), Arc::new(limits()));
    let mut schedule = Schedule::new(100);
    for number in 0..100 {
        schedule.add("a", &limits, job(number, 1), now).unwrap();
    }
    assert_eq!(begin(&mut schedule, 7, now), "a a a a a - -");
    assert!(schedule.done("a", HEALTH, now).is_empty());
    assert_eq!(begin(&mut schedule, 3, now), "a a -", "six");

    let mut narrow = Schedule::<&str>::new(8);
    for number in 0..100 {
        narrow.add("a", &limits, job(number, 1), now).unwrap();
    }
    assert_eq!(begin(&mut narrow, 5, now), "a a a a -");
}

// Specification section 17.3.
#[test]
fn a_dead_destination_is_left_alone_for_its_time_with_all_that_waits_for_it() {
    let start = clock::now();
    let limits =
        Arc::new(Limits { concurrency: Concurrency { initial: 1, ..Concurrency::default() }, ..limits() });
    let mut schedule = Schedule::new(10);
    for number in 0..3 {
        schedule.add("a", &limits, job(number, 2), start).unwrap();
    }
    assert_eq!(begin(&mut schedule, 2, start), "a -");
    assert_eq!(schedule.done("a", TROUBLE, start), [job(1, 2), job(2, 2)]);
    assert_eq!((schedule.waiting(), schedule.busy()), (0, 0));
    let later = start + Duration::from_secs(299);
    assert_eq!(begin(&mut schedule, 1, later), "-");
    assert_eq!(schedule.add("a", &limits, job(4, 1), later), Err("refused"));
    let alive = start + Duration::from_secs(300);
    assert_eq!(schedule.add("a", &limits, job(4, 1), alive), Ok(()));
    assert_eq!(begin(&mut schedule, 1, alive), "a");
}

// Specification section 17.3: a success revives with as many as are under way.
#[test]
fn a_dead_destination_that_answers_after_all_is_alive() {
    let (now, limits) = (clock::now(), Arc::new(limits()));
    let mut schedule = Schedule::new(100);
    for number in 0..9 {
        schedule.add("a", &limits, job(number, 1), now).unwrap();
    }
    assert_eq!(begin(&mut schedule, 5, now), "a a a a a");
    let dropped: Vec<_> = (0..4).map(|_| schedule.done("a", TROUBLE, now).len()).collect();
    // After three failures the window has two deliveries, and two are under way.
    assert_eq!(dropped, [0, 0, 0, 4]);
    assert_eq!(schedule.add("a", &limits, job(10, 1), now), Err("refused"));
    assert!(schedule.done("a", HEALTH, now).is_empty());
    assert_eq!(schedule.add("a", &limits, job(10, 1), now), Ok(()));
    assert_eq!(begin(&mut schedule, 1, now), "a");
}

// Specification section 17.6.
#[test]
fn an_operator_has_a_dead_destination_tried() {
    let now = clock::now();
    let limits = Arc::new(Limits {
        concurrency: Concurrency { failed_cohorts: 0, ..Concurrency::default() },
        ..limits()
    });
    let mut schedule = Schedule::new(100);
    schedule.add("a", &limits, job(1, 1), now).unwrap();
    assert_eq!(begin(&mut schedule, 1, now), "a");
    assert!(schedule.done("a", TROUBLE, now).is_empty());
    assert_eq!(schedule.add("a", &limits, job(2, 1), now), Err("refused"));
    schedule.flush("a", now);
    schedule.flush("b", now);
    assert_eq!(schedule.add("a", &limits, job(2, 1), now), Ok(()));
    assert_eq!(begin(&mut schedule, 1, now), "a");
}

// Specification section 17.4.
#[test]
fn a_rate_delay_lets_one_delivery_at_a_time_go_after_its_pause() {
    let start = clock::now();
    let limits = Arc::new(Limits { rate_delay: Duration::from_secs(2), ..limits() });
    let mut schedule = Schedule::new(100);
    for number in 0..3 {
        schedule.add("a", &limits, job(number, 1), start).unwrap();
    }
    assert_eq!(begin(&mut schedule, 2, start), "a -");
    let end = start + Duration::from_secs(1);
    assert!(schedule.done("a", HEALTH, end).is_empty());
    assert_eq!(begin(&mut schedule, 1, end), "-");
    let again = start + Duration::from_secs(3);
    assert_eq!(schedule.next_wake(), Some(again));
    let delivery = schedule.next(again).unwrap();
    assert_eq!((delivery.last, delivery.more), (Some(end), true));
    assert_eq!(schedule.next_wake(), None);
}

#[test]
fn destinations_without_mail_are_forgotten() {
    let (start, limits) = (clock::now(), Arc::new(limits()));
    let mut schedule = Schedule::<&str>::new(1);
    for number in 0..MOST_REMEMBERED + 10 {
        let name = number.to_string();
        schedule.add(&name, &limits, job(1, 1), start).unwrap();
        assert_eq!(schedule.next(start).unwrap().destination.as_ref(), name);
        assert!(schedule.done(&name, Showed::Health, start).is_empty());
    }
    assert_eq!(schedule.destinations.len(), MOST_REMEMBERED);
    assert_eq!(begin(&mut schedule, 1, start + REMEMBERED), "-");
    assert!(schedule.destinations.is_empty() && schedule.idle.is_empty());
}

#[test]
fn an_end_without_a_beginning_changes_nothing() {
    let (now, limits) = (clock::now(), Arc::new(limits()));
    let mut schedule = Schedule::new(10);
    schedule.add("a", &limits, job(1, 1), now).unwrap();
    assert!(schedule.done("a", TROUBLE, now).is_empty());
    assert!(schedule.done("b", TROUBLE, now).is_empty());
    assert_eq!(begin(&mut schedule, 1, now), "a");
}

/// One that hangs never ends a delivery, and has more mail than all others.
#[test]
fn a_destination_that_hangs_holds_no_other() {
    let (now, limits) = (
        clock::now(),
        Arc::new(Limits { concurrency: Concurrency { limit: 0, ..Concurrency::default() }, ..limits() }),
    );
    let mut schedule = Schedule::<&str>::new(4);
    for number in 0..1_000 {
        schedule.add("stuck", &limits, job(number, 1), now).unwrap();
        schedule.add(&format!("d{}", number % 10), &limits, job(number, 1), now).unwrap();
    }
    let mut rounds = 0;
    let mut delivered = 0;
    while delivered < 1_000 {
        rounds += 1;
        assert!(rounds < 5_000, "{delivered} after {rounds} rounds");
        while let Some(delivery) = schedule.next(now) {
            if delivery.destination.as_ref() != "stuck" {
                schedule.done(&delivery.destination, Showed::Health, now);
                delivered += 1;
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add { destination: u8, recipients: u32 },
    Begin,
    End { which: usize, trouble: bool },
    Wait(u64),
    Flush(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6u8, 0..8u32).prop_map(|(destination, recipients)| Step::Add { destination, recipients }),
        4 => Just(Step::Begin),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(which, trouble)| Step::End { which, trouble }),
        1 => (0..200u64).prop_map(Step::Wait),
        1 => (0..6u8).prop_map(Step::Flush),
    ]
}

proptest! {
    /// Whatever happens: no recipient is lost or delivered twice, no limit is passed, and with places free
    /// nobody waits for nothing.
    #[test]
    fn every_recipient_is_begun_once_or_given_back(
        steps in proptest::collection::vec(step(), 1..300),
        places in 1..6u32,
        rate in prop_oneof![Just(0u64), Just(7u64)],
    ) {
        let mut now = clock::now();
        let limits = Arc::new(Limits {
            concurrency: Concurrency { initial: 2, limit: 3, ..Concurrency::default() },
            recipients: 3,
            dead: Duration::from_secs(100),
            rate_delay: Duration::from_secs(rate),
        });
        let mut schedule = Schedule::new(places);
        let mut waiting: BTreeMap<(String, u32), u32> = BTreeMap::new();
        let mut under_way: Vec<Delivery> = Vec::new();
        let message = |job: &Job| (0..400).find(|count| QueueId::new(1, *count) == job.message).expect("one of ours");
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Add { destination, recipients } => {
                    let number = u32::try_from(number).unwrap();
                    let name = format!("d{destination}");
                    if schedule.add(&name, &limits, job(number, recipients), now).is_ok() && recipients > 0 {
                        waiting.insert((name, number), recipients);
                    }
                }
                Step::Begin => match schedule.next(now) {
                    Some(delivery) => {
                        let taken = u32::try_from(delivery.job.recipients.len()).unwrap();
                        prop_assert!((1..=3).contains(&taken));
                        let key = (delivery.destination.to_string(), message(&delivery.job));
                        let left = waiting.get_mut(&key).expect("it was added");
                        prop_assert!(*left >= taken);
                        *left -= taken;
                        if *left == 0 { waiting.remove(&key); }
                        under_way.push(delivery);
                        let same = under_way.iter().filter(|other| other.destination.as_ref() == key.0).count();
                        let most = if rate > 0 { 1 } else { 3 };
                        prop_assert!(same <= most);
                        prop_assert!(under_way.len() <= places as usize);
                    }
                    None if rate == 0 && under_way.is_empty() => prop_assert_eq!(schedule.waiting(), 0),
                    None => {}
                },
                Step::End { which, trouble } if !under_way.is_empty() => {
                    let delivery = under_way.swap_remove(which % under_way.len());
                    let showed = if trouble { TROUBLE } else { HEALTH };
                    for job in schedule.done(&delivery.destination, showed, now) {
                        let key = (delivery.destination.to_string(), message(&job));
                        prop_assert_eq!(waiting.remove(&key), Some(u32::try_from(job.recipients.len()).unwrap()));
                    }
                }
                Step::End { .. } => {}
                Step::Wait(seconds) => now += Duration::from_secs(seconds),
                Step::Flush(destination) => schedule.flush(&format!("d{destination}"), now),
            }
            prop_assert_eq!(schedule.waiting(), waiting.values().sum::<u32>() as usize);
            prop_assert_eq!(schedule.busy() as usize, under_way.len());
            prop_assert_eq!(schedule.next_wake().is_some() && rate == 0, false);
        }
    }
}
