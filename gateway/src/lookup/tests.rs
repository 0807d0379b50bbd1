use proptest::prelude::*;

use super::*;

const NONCE: Nonce = Nonce([7; 16]);
const WALL: u64 = 1_800_000_000_000;

fn question() -> Question {
    Question { client: "192.0.2.1:40000".parse().unwrap(), gateway: "198.51.100.3:10025".parse().unwrap() }
}

fn found() -> Answer {
    Answer::Found { destination: "203.0.113.9:25".parse().unwrap(), identity: Identity::new(b"10.0.0.7") }
}

fn wires() -> [Wire; 2] {
    [
        Wire::Sealed(sealed::Key::new("a secret of both sides").unwrap()),
        Wire::SmtpGated(smtp_gated::Secret(0x0102_0304)),
    ]
}

#[test]
fn both_formats_carry_question_and_answer() {
    for wire in wires() {
        let asked = wire.asked(&wire.ask(question(), NONCE, WALL).unwrap()).unwrap();
        assert_eq!(asked.question, question());
        for answer in [found(), Answer::Unknown] {
            let datagram = wire.answer(&asked, &answer, WALL).unwrap();
            assert_eq!(wire.answered(&datagram, question(), &[Nonce([1; 16]), NONCE]), Ok(answer));
            assert_eq!(wire.answered(&datagram, question(), &[Nonce([1; 16])]), Err(Unusable::Other));
            // An answer is no question, and the other way round.
            assert!(wire.asked(&datagram).is_err());
        }
        let own = wire.ask(question(), NONCE, WALL).unwrap();
        assert!(wire.answered(&own, question(), &[NONCE]).is_err());
    }
}

#[test]
fn the_datagram_of_smtp_gated_is_written_octet_for_octet() {
    let [_, wire] = wires();
    let mut wanted = b"RPHD\x07\x07\x07\x07\x01\x02\x03\x04\x04\x02\x00\x01".to_vec();
    wanted.extend_from_slice(&[192, 0, 2, 1, 198, 51, 100, 3, 0x9c, 0x40, 0x27, 0x29]);
    wanted.resize(66, 0);
    assert_eq!(wire.ask(question(), NONCE, WALL).unwrap(), wanted);
    let asked = wire.asked(&wanted).unwrap();
    let mut answer = b"RPHD\x07\x07\x07\x07\x01\x02\x03\x04\x04\x02\x00\x12".to_vec();
    answer.extend_from_slice(&[192, 0, 2, 1, 203, 0, 113, 9, 0x9c, 0x40, 0, 25]);
    answer.extend_from_slice(b"10.0.0.7");
    answer.resize(66, 0);
    assert_eq!(wire.answer(&asked, &found(), WALL).unwrap(), answer);
}

#[test]
fn another_secret_is_refused() {
    let [sealed, plain] = wires();
    let other = Wire::Sealed(sealed::Key::new("a secret of others").unwrap());
    let datagram = other.ask(question(), NONCE, WALL).unwrap();
    assert_eq!(sealed.asked(&datagram), Err(Unusable::Secret));
    let other = Wire::SmtpGated(smtp_gated::Secret(4));
    let datagram = other.ask(question(), NONCE, WALL).unwrap();
    assert_eq!(plain.asked(&datagram), Err(Unusable::Secret));
}

#[test]
fn no_changed_bit_gets_past_the_seal() {
    let [wire, _] = wires();
    let asked = Asked { question: question(), nonce: NONCE, sent: Some(WALL) };
    let answer = wire.answer(&asked, &found(), WALL).unwrap();
    for bit in 0..answer.len() * 8 {
        let mut changed = answer.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(wire.answered(&changed, question(), &[NONCE]).is_err(), "bit {bit}");
    }
}

#[test]
fn an_answer_to_another_question_is_none() {
    let [wire, _] = wires();
    let other = Question { client: "192.0.2.1:40001".parse().unwrap(), ..question() };
    let asked = Asked { question: other, nonce: NONCE, sent: None };
    let datagram = wire.answer(&asked, &found(), WALL).unwrap();
    assert_eq!(wire.answered(&datagram, question(), &[NONCE]), Err(Unusable::Other));
}

#[test]
fn both_versions_of_ip_are_asked_about_under_the_seal_only() {
    let question = Question {
        client: "[2001:db8::1]:40000".parse().unwrap(),
        gateway: "[2001:db8::3]:10025".parse().unwrap(),
    };
    let [wire, plain] = wires();
    let asked = wire.asked(&wire.ask(question, NONCE, WALL).unwrap()).unwrap();
    assert_eq!((asked.question, asked.sent), (question, Some(WALL)));
    assert_eq!(plain.ask(question, NONCE, WALL), Err(Unusable::Address));
}

#[test]
fn the_line_of_remote_is_read_as_it_is_written() {
    assert_eq!(ident::ask(question()), "40000 , 10025\r\n");
    assert_eq!(ident::asked(b"40000 , 10025\r\n"), Ok((40000, 10025)));
    let line = ident::answer(question(), &found());
    assert_eq!(line, "40000 , 10025 : ORIGIN : 203.0.113.9 : 25 : 10.0.0.7\r\n");
    assert_eq!(ident::answered(line.as_bytes(), question()), Ok(found()));
    let line = ident::answer(question(), &Answer::Unknown);
    assert_eq!(ident::answered(line.as_bytes(), question()), Ok(Answer::Unknown));
}

#[test]
fn a_line_that_answers_nothing_is_refused() {
    for (line, why) in [
        ("", Unusable::Format),
        ("40000 , 10025", Unusable::Format),
        ("40001 , 10025 : ORIGIN : 203.0.113.9 : 25 : x", Unusable::Other),
        ("40000 , 10025 : USERID : UNIX : x", Unusable::Format),
        ("40000 , 10025 : ORIGIN : 203.0.113 : 25 : x", Unusable::Address),
        ("40000 , 10025 : ORIGIN : 2001:db8::1 : 25 : x", Unusable::Address),
        ("40000 , 10025 : ORIGIN : 203.0.113.9 : 65536 : x", Unusable::Address),
    ] {
        let line = format!("{line}\r\n");
        assert_eq!(ident::answered(line.as_bytes(), question()), Err(why), "{line}");
    }
    let cut = b"40000 , 10025 : ORIGIN : 203.0.113.9 : 2";
    assert_eq!(ident::answered(cut, question()), Err(Unusable::Format));
}

proptest! {
    #[test]
    fn no_octets_make_it_fail(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        for wire in wires() {
            prop_assert!(wire.asked(&octets).is_err());
            prop_assert!(wire.answered(&octets, question(), &[NONCE]).is_err());
        }
        ident::asked(&octets).ok();
        ident::answered(&octets, question()).ok();
    }

    #[test]
    fn whatever_is_found_reads_back(address: u32, port: u16, name in "[a-z0-9.:]{1,20}") {
        let destination = SocketAddr::from((std::net::Ipv4Addr::from(address), port));
        let answer = Answer::Found { destination, identity: Identity::new(name.as_bytes()) };
        for wire in wires() {
            let asked = Asked { question: question(), nonce: NONCE, sent: None };
            let datagram = wire.answer(&asked, &answer, WALL).unwrap();
            prop_assert_eq!(wire.answered(&datagram, question(), &[NONCE]), Ok(answer.clone()));
        }
    }
}
