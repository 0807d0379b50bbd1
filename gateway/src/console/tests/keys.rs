//! What keys and answers do to the model.

use std::time::Duration;

use jiff::tz::TimeZone;

use super::world::{id, log, queue, sessions, status};
use super::{answer, answer_with, model, press, screen};
use crate::clock;
use crate::console::deed::{Deed, Handling};
use crate::console::list::clients;
use crate::console::list::sessions::Sort;
use crate::console::model::{Link, Mode, Model, QueueStanding, Tab};
use crate::console::update::{Answer, Effect, Event, Page, update};
use crate::control::request::{LockList, Log};
use crate::ipc::client::{ClientList, ClientSort, ClientView};
use crate::telemetry::Line;

#[test]
fn a_gateway_that_is_away_is_waited_for_and_comes_back() {
    let mut model = Model::new(clock::now(), 24, TimeZone::UTC);
    let start = model.now;
    assert!(screen(&model, 80, 24).contains("waiting for the gateway's first answer"));
    update(&mut model, Event::Away("nobody answers".to_owned()));
    update(&mut model, Event::Tick(start + Duration::from_secs(5)));
    update(&mut model, Event::Away("nobody answers".to_owned()));
    assert!(screen(&model, 80, 24).contains("no answer for 5s, trying again: nobody answers"));
    press(&mut model, "2");
    assert!(screen(&model, 80, 24).contains("waiting for the list"), "not that no session is open");
    press(&mut model, "1");
    let answer = || Box::new(Answer { status: status(), page: Page::None, log: log() });
    update(&mut model, Event::Answer(answer()));
    assert_eq!((&model.link, model.log.last()), (&Link::Up, 4));
    assert!(!screen(&model, 80, 24).contains("no answer"));

    let mut restarted = answer();
    restarted.status.pid = 4712;
    update(&mut model, Event::Answer(restarted));
    assert_eq!(model.log.last(), 0, "the lines of the new process are asked for from its first");
    assert_eq!(model.log.lines.len(), 4);
    assert!(screen(&model, 80, 24).contains("the gateway was restarted"));
    update(&mut model, Event::Tick(start + Duration::from_secs(60)));
    assert_eq!(model.notice, None);
}

#[test]
fn the_pages_turn() {
    let mut model = model();
    assert_eq!(press(&mut model, "\t"), Some(Effect::Ask));
    assert_eq!(model.tab, Tab::Sessions);
    press(&mut model, "\t\t\t\t\t\t");
    assert_eq!(model.tab, Tab::Overview);
    press(&mut model, "?");
    assert_eq!(press(&mut model, "2"), None, "the page of keys is in front");
    assert_eq!((press(&mut model, "q"), &model.mode), (None, &Mode::Normal));
    assert_eq!(press(&mut model, "q"), Some(Effect::Quit));
}

#[test]
fn a_session_ends_only_after_a_yes() {
    let mut model = model();
    press(&mut model, "2");
    let selected = model.sessions.selected().unwrap().id;
    press(&mut model, "K");
    assert_eq!(model.mode, Mode::Confirm(Deed::End(selected)));
    for no in ["n", "\x1b", "\n", "q"] {
        press(&mut model, "K");
        assert_eq!((press(&mut model, no), &model.mode), (None, &Mode::Normal));
    }
    press(&mut model, "\nK");
    assert_eq!(press(&mut model, "y"), Some(Effect::Do(Deed::End(selected))));
    update(&mut model, Event::Done(Ok(Deed::End(selected))));
    assert!(screen(&model, 80, 24).contains(&format!("session {selected} is told to end")));
}

#[test]
fn the_question_is_about_the_session_that_was_chosen_whatever_moves() {
    let mut model = model();
    press(&mut model, "2");
    let selected = model.sessions.selected().unwrap().id;
    press(&mut model, "K");
    let mut list = sessions();
    list.sessions.retain(|session| session.id != selected);
    update(&mut model, answer(Page::Sessions(list)));
    assert_ne!(model.sessions.selected().unwrap().id, selected);
    assert_eq!(press(&mut model, "y"), Some(Effect::Do(Deed::End(selected))));
}

#[test]
fn the_selection_stays_with_its_session_when_the_order_changes() {
    let mut model = model();
    press(&mut model, "2");
    assert_eq!((model.sessions.sort, model.sessions.descends()), (Sort::Age, true));
    assert_eq!(model.sessions.selected().unwrap().id, id(5), "the oldest is first");
    press(&mut model, "jj");
    assert_eq!(model.sessions.selected().unwrap().id, id(3));
    press(&mut model, "r");
    assert_eq!((model.sessions.selected().unwrap().id, model.sessions.row()), (id(3), 2));
    press(&mut model, "G");
    assert_eq!(model.sessions.selected().unwrap().id, id(5));
    press(&mut model, "rkkkk");
    assert_eq!(model.sessions.row(), 0);
}

#[test]
fn addresses_sort_as_numbers() {
    let mut model = model();
    press(&mut model, "2<<<");
    assert_eq!(model.sessions.sort, Sort::Client);
    let clients: Vec<_> = model.sessions.shown().iter().map(|session| session.client.as_str()).collect();
    assert_eq!(clients[..2], ["192.0.2.9:40002", "192.0.2.10:40001"]);
    assert!(clients[4].starts_with("[2001"));
    press(&mut model, "<");
    assert_eq!(model.sessions.sort, Sort::FromServer, "the columns go around");
}

#[test]
fn clients_are_sorted_by_the_gateway_and_again_here() {
    let mut model = model();
    press(&mut model, "3");
    let first = |model: &Model| model.clients.selected().map(ClientView::name).unwrap();
    assert_eq!(first(&model), "192.0.2.10", "the most sessions");
    assert_eq!(press(&mut model, ">"), Some(Effect::Ask), "others may have more octets");
    assert_eq!(model.clients.sort, clients::Sort::By(ClientSort::Bytes));
    assert_eq!(model.clients.sort.asked(), ClientSort::Bytes);
    press(&mut model, "r");
    assert_eq!((first(&model), model.clients.row()), ("192.0.2.10".to_owned(), 2));
    press(&mut model, "g/2001\n");
    assert_eq!(first(&model), "2001:db8:aaaa:bbbb::/64");
    press(&mut model, "\x1b/destin\n");
    assert_eq!(first(&model), "192.0.2.10", "a limit gone beyond is a text of its client");
}

#[test]
fn that_nothing_is_counted_of_clients_is_said_and_why() {
    let mut model = model();
    press(&mut model, "3\n");
    update(
        &mut model,
        answer(Page::Clients(Err("clients are counted with `origin: assign` only".to_owned()))),
    );
    press(&mut model, "\x1b");
    assert!(screen(&model, 80, 24).contains("counted with `origin: assign` only"));
    update(&mut model, answer(Page::Clients(Ok(ClientList::default()))));
    assert!(screen(&model, 80, 24).contains("no client is known"));
    press(&mut model, "\n");
    assert_eq!(model.mode, Mode::Normal, "there is no row to look into");
}

#[test]
fn a_lock_is_removed_only_after_a_yes() {
    let mut model = model();
    press(&mut model, "4/virus\n");
    let who = model.locks.selected().unwrap().who.clone();
    assert_eq!((who.to_string().as_str(), model.locks.shown().len()), ("192.0.2.7", 1));
    for no in ["n", "\x1b", "\n", "q"] {
        press(&mut model, "U");
        assert_eq!(model.mode, Mode::Confirm(Deed::Unlock(who.clone())));
        assert_eq!((press(&mut model, no), &model.mode), (None, &Mode::Normal));
    }
    press(&mut model, "\nU");
    let deed = Deed::Unlock(who);
    assert_eq!(press(&mut model, "y"), Some(Effect::Do(deed.clone())));
    assert_eq!(update(&mut model, Event::Done(Ok(deed))), Some(Effect::Ask), "the list is another one");
    assert!(screen(&model, 80, 24).contains("192.0.2.7 is unlocked"));
    update(&mut model, answer(Page::Locks(LockList::default())));
    assert!(screen(&model, 80, 24).contains("no lock passes the filter"));
    press(&mut model, "U\n");
    assert_eq!(model.mode, Mode::Normal, "there is no row");
}

#[test]
fn each_handling_of_a_message_is_asked_for_and_is_about_the_one_that_was_chosen() {
    let mut model = model();
    press(&mut model, "5");
    let selected = model.queue.selected().unwrap().id;
    assert_eq!(selected.to_string(), "0PHFJ40000001", "the oldest");
    for (key, handling) in
        [("H", Handling::Hold), ("U", Handling::Release), ("T", Handling::Retry), ("D", Handling::Delete)]
    {
        press(&mut model, key);
        let deed = Deed::Message(handling, selected);
        assert_eq!(model.mode, Mode::Confirm(deed.clone()));
        assert_eq!((press(&mut model, "n"), &model.mode), (None, &Mode::Normal));
        press(&mut model, key);
        let (standing, mut messages) = queue();
        messages.retain(|message| message.id != selected);
        update(&mut model, answer(Page::Queue(Ok((standing, messages)))));
        assert_eq!(press(&mut model, "y"), Some(Effect::Do(deed)));
        update(&mut model, answer(Page::Queue(Ok(queue()))));
        press(&mut model, "g");
    }
    assert_eq!(press(&mut model, "\n"), Some(Effect::Read(selected)));
    assert!(screen(&model, 80, 24).contains("waiting for its envelope"));
    update(&mut model, Event::Message(selected, Err("no permission".to_owned())));
    assert!(screen(&model, 80, 24).contains("no permission"));
    press(&mut model, "D");
    assert_eq!(model.mode, Mode::Confirm(Deed::Message(Handling::Delete, selected)));
}

#[test]
fn mail_for_a_destination_is_tried_after_a_yes_and_that_for_all_others_is_not() {
    let mut model = model();
    press(&mut model, "6");
    press(&mut model, "T");
    let deed = Deed::Flush("example.com".to_owned());
    assert_eq!(model.mode, Mode::Confirm(deed.clone()));
    assert_eq!((press(&mut model, "n"), &model.mode), (None, &Mode::Normal));
    assert_eq!(press(&mut model, "\nTy"), Some(Effect::Do(deed.clone())));
    update(&mut model, Event::Done(Ok(deed)));
    assert!(screen(&model, 80, 24).contains("mail for example.com is tried now"));
    press(&mut model, "j");
    assert_eq!(model.destinations.selected().map(|row| row.destination.as_str()), Some(""));
    press(&mut model, "T");
    assert_eq!(model.mode, Mode::Normal, "they are many");
    update(&mut model, answer(Page::Waiting(Err("this gateway has no queue".to_owned()))));
    assert!(screen(&model, 80, 24).contains("this gateway has no queue"));
}

#[test]
fn that_there_is_no_queue_is_said_and_why() {
    let mut model = model();
    update(&mut model, answer(Page::Queue(Err("this gateway has no queue".to_owned()))));
    press(&mut model, "5");
    assert!(screen(&model, 80, 24).contains("this gateway has no queue"));
    update(&mut model, answer(Page::Queue(Ok((QueueStanding::default(), Vec::new())))));
    assert!(screen(&model, 80, 24).contains("no message is in the queue"));
}

#[test]
fn a_filter_is_written_kept_and_dropped() {
    let mut model = model();
    press(&mut model, "2/splicex\x08");
    assert_eq!(model.sessions.shown().len(), 1);
    assert!(screen(&model, 80, 24).contains(" /splice"));
    press(&mut model, "\n");
    assert_eq!(model.mode, Mode::Normal);
    assert!(screen(&model, 80, 24).contains("5 open, 1 shown, /splice"));
    press(&mut model, "/zzz\x1b");
    assert_eq!(model.sessions.filter, "splice", "Esc brings the filter before back");
    press(&mut model, "\x1b");
    assert_eq!(model.sessions.shown().len(), 5);
    press(&mut model, "/");
    press(&mut model, &"q".repeat(1_000));
    assert_eq!(model.sessions.filter.len(), 64, "a filter has an end, and `q` is a letter in it");
}

#[test]
fn a_scrolled_log_stays_and_a_following_one_moves_on() {
    let mut model = model();
    let lines = |numbers: std::ops::Range<u64>| {
        let line = |number| Line { number, millis: 0, level: "info".into(), text: format!("line {number}") };
        let log = Log { lines: numbers.map(line).collect() };
        answer_with(Page::None, log)
    };
    press(&mut model, "7");
    update(&mut model, lines(5..105));
    assert!(screen(&model, 80, 24).contains("line 104"));
    press(&mut model, "kk");
    assert!(!screen(&model, 80, 24).contains("line 104") && screen(&model, 80, 24).contains("line 102"));
    update(&mut model, lines(105..115));
    assert!(screen(&model, 80, 24).contains("line 102 ") && !screen(&model, 80, 24).contains("line 103"));
    press(&mut model, "f");
    assert!(screen(&model, 80, 24).contains("line 114"));
    press(&mut model, "g");
    assert!(screen(&model, 80, 24).contains("client=192.0.2.10"), "the first line");
    press(&mut model, "/LINE 7\n");
    let shown = screen(&model, 80, 24);
    assert!(shown.contains("line 79") && !shown.contains("line 80"), "{shown}");
    update(&mut model, lines(115..20_000));
    assert_eq!(model.log.lines.len(), 5_000, "old lines leave");
}
