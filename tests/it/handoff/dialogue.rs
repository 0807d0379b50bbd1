//! Sessions that are handed off while their ends talk.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use gateway::datapath::handoff::{self, Pair, Refusal};
use gateway_tests::wait;

use super::{Direct, PATIENCE, Router, Session, noise, on_router};
use crate::router::{FAMILIES, listen_on_server};
/// A session in the middle of a dialogue while it is handed off: octets come whenever they like.
struct Dialogue {
    session: Session,
    seed: u64,
}

/// Octets of each dialogue and direction, in small pieces with pauses.
const TALK: usize = 2_000;

impl Dialogue {
    /// Both ends talk and listen; what they hear must be what was said.
    fn talk(&self) -> anyhow::Result<()> {
        let (client, served) = (&self.session.client, &self.session.served);
        std::thread::scope(|scope| {
            let seed = self.seed;
            let said = [scope.spawn(move || say(client, seed)), scope.spawn(move || say(served, !seed))];
            hear(served, seed).context("at the server")?;
            hear(client, !seed).context("at the client")?;
            for said in said {
                said.join().expect("does not panic")?;
            }
            Ok(())
        })
    }

    /// Moves on what has come to the gateway's sockets.
    fn relay(&self) -> anyhow::Result<()> {
        let Session { accepted, upstream, .. } = &self.session;
        for (mut from, mut to) in [(accepted, upstream), (upstream, accepted)] {
            from.set_nonblocking(true)?;
            let mut buffer = [0; TALK];
            match from.read(&mut buffer) {
                Ok(octets) => to.write_all(&buffer[..octets])?,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn say(mut to: &TcpStream, seed: u64) -> std::io::Result<()> {
    let octets = noise(TALK, seed);
    for (piece, pause) in octets.chunks(TALK / 8).zip(noise(8, seed.rotate_left(7))) {
        std::thread::sleep(Duration::from_micros(u64::from(pause) * 100));
        to.write_all(piece)?;
    }
    Ok(())
}

fn hear(mut from: &TcpStream, seed: u64) -> anyhow::Result<()> {
    let mut heard = vec![0; TALK];
    from.read_exact(&mut heard)?;
    ensure!(heard == noise(TALK, seed), "other octets came out");
    Ok(())
}

/// Hands off so many dialogues, `WIDTH` at a time; none may lose an octet or its life.
fn hand_off_dialogues(number: usize) -> anyhow::Result<()> {
    const WIDTH: usize = 25;
    on_router(|mut router| {
        let (mut direct, mut seed) = (0, 1);
        let servers =
            [listen_on_server(router.lab, FAMILIES[0])?, listen_on_server(router.lab, FAMILIES[1])?];
        while direct < number {
            let family = FAMILIES[direct / WIDTH % 2];
            let dialogues = (0..WIDTH)
                .map(|place| {
                    seed += 1;
                    let source = if place % 2 == 0 { family.client() } else { family.router() };
                    let session =
                        router.session(&servers[usize::from(family == FAMILIES[1])], family, source)?;
                    Ok(Dialogue { session, seed: u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15) })
                })
                .collect::<anyhow::Result<Vec<_>>>()?;
            direct += std::thread::scope(|scope| {
                let talks: Vec<_> =
                    dialogues.iter().map(|dialogue| scope.spawn(|| dialogue.talk())).collect();
                let direct = router.hand_off_while_they_talk(&dialogues);
                for talk in talks {
                    talk.join().expect("does not panic")?;
                }
                direct
            })?;
            for dialogue in dialogues {
                let Session { client, served, .. } = dialogue.session;
                Direct { client, served }.close(dialogue.seed % 3 == 0)?;
            }
        }
        Ok(())
    })
}

impl Router<'_> {
    /// Says how many were handed off: all of them, sooner or later.
    fn hand_off_while_they_talk(&mut self, dialogues: &[Dialogue]) -> anyhow::Result<usize> {
        let mut open: Vec<_> = dialogues.iter().collect();
        let deadline = wait::Deadline::after(PATIENCE);
        while !open.is_empty() {
            ensure!(!deadline.passed(), "{} of {} were never quiet", open.len(), dialogues.len());
            for dialogue in &open {
                dialogue.relay()?;
            }
            let pair = |dialogue: &&Dialogue| {
                let Session { accepted, upstream, .. } = &dialogue.session;
                Ok(Pair::new(accepted.try_clone()?.into(), upstream.try_clone()?.into()))
            };
            let pairs = open.iter().map(pair).collect::<anyhow::Result<Vec<_>>>()?;
            let answers = handoff::hand_off(pairs, &mut self.table);
            let mut left = Vec::new();
            for (dialogue, answer) in open.into_iter().zip(answers) {
                match answer {
                    Ok(()) => {}
                    Err(Refusal::Busy | Refusal::Unseen) => left.push(dialogue),
                    Err(refusal) => bail!("refused: {refusal:?}"),
                }
            }
            open = left;
        }
        Ok(dialogues.len())
    }
}

#[test]
fn ten_thousand_handoffs_in_the_middle_of_a_dialogue_lose_nothing() -> anyhow::Result<()> {
    hand_off_dialogues(10_000)
}
