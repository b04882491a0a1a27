//! What shows where the client is, and what does not.

use super::*;
use crate::peer::stun::answer_check;

/// Bytes of IPv4 and UDP.
const HEADERS: usize = 28;

impl Story {
    /// The last check of ours that went to a port.
    fn asked(&self, port: u16) -> Option<&[u8]> {
        let mut asked = self.asked.iter();
        let found = asked.find(|(path, _)| *path == addr(port));
        found.map(|(_, check)| &check[..])
    }

    /// The client's answer to what it was asked at a port.
    fn answer_of(&self, port: u16) -> Vec<u8> {
        let username = format!("{CLIENT}:{}", self.server.ufrag);
        let asked = self.asked(port).expect("a question");
        let server = addr(7000).address();
        answer_check(asked, &username, &client().pwd, server).expect("an answer")
    }

    /// Has the client answer what it was asked at a port.
    fn answer(&mut self, port: u16) -> Option<Path> {
        let answer = self.answer_of(port);
        let selected = self.ice.handle_answer(self.now, addr(port), &answer);
        selected.expect("it is what was asked")
    }

    fn media(&mut self, port: u16) -> Option<Path> {
        self.ice.handle_media(self.now, addr(port))
    }

    /// Completes the handshake, by way of what is selected.
    fn handshake(&mut self) {
        self.ice.handle_flight();
        self.ice.handle_handshake(self.now);
        self.poll_checks();
    }

    fn pause(&mut self, milliseconds: u64) -> &mut Self {
        self.now += Duration::from_millis(milliseconds);
        self
    }

    /// On a path where the client has just answered, checked and sent media.
    fn connected() -> Story {
        let mut story = Story::new();
        story.nominate(1000);
        story.handshake();
        assert_eq!((story.media(1000), story.answer(1000)), (None, None));
        story.asked.clear();
        story
    }
}

#[test]
fn a_way_that_is_alive_is_left_for_one_that_the_client_answers_from() {
    let mut story = Story::connected();
    assert_eq!(story.pause(10).nominate(2000).selected, None);
    assert_eq!(story.ice.selected(), Some(addr(1000)));
    assert_eq!(
        story.pause(10).nominate(2000).selected,
        None,
        "asked already"
    );
    assert_eq!(story.pause(30).answer(2000), Some(addr(2000)));
    // Whoever is asked at the first check and nominates then waits for nothing.
    story.media(2000);
    story.ping(3000);
    assert_eq!(story.pause(40).answer(3000), None, "not nominated");
    assert_eq!(story.nominate(3000).selected, Some(addr(3000)));
}

#[test]
fn what_was_wanted_long_ago_is_not_any_more() {
    let mut story = Story::connected();
    story.nominate(2000);
    let late = story.answer_of(2000);
    for _ in 0..5 {
        story.wait(1);
        story.media(1000);
    }
    let selected = story.ice.handle_answer(story.now, addr(2000), &late);
    assert_eq!(selected, Ok(None));
}

#[test]
fn only_the_clients_answer_from_there_proves_anything() {
    let mut story = Story::connected();
    story.nominate(2000);
    story.ping(3000);
    let username = format!("{CLIENT}:{}", story.server.ufrag);
    let server = addr(7000).address();
    let asked = story.asked(2000).unwrap().to_vec();
    let of = |username: &str, password: &str| answer_check(&asked, username, password, server);
    assert_eq!(of(&username, "another password, as long"), None);
    assert_eq!(of("OTHR:else", &client().pwd), None);
    let answer = of(&username, &client().pwd).unwrap();
    let mut forged = answer.clone();
    let last = forged.len() - 9;
    forged[last] ^= 1;
    let unfingerprinted = forged.len() - 8;
    forged.truncate(unfingerprinted);
    let body = (forged.len() - 20) as u16;
    forged[2..4].copy_from_slice(&body.to_be_bytes());
    let mut handle =
        |port: u16, packet: &[u8]| story.ice.handle_answer(story.now, addr(port), packet);
    for (port, packet, why) in [
        (3000, &answer, "to what was asked elsewhere"),
        (4000, &answer, "from where nobody was asked"),
        (2000, &forged, "without the password"),
        (2000, &asked, "a request"),
        (2000, &answer[..40].to_vec(), "cut"),
    ] {
        assert!(handle(port, packet).is_err(), "{why}");
    }
    assert_eq!(handle(2000, &answer), Ok(Some(addr(2000))));
    // What is asked several times may be answered as often.
    assert_eq!(handle(2000, &answer), Ok(None));
}

#[test]
fn a_question_is_repeated_a_few_times_and_its_answer_may_be_late() {
    let mut story = Story::connected();
    let start = story.now;
    story.ping(2000);
    story.wait_until(start + Duration::from_secs(2));
    let asked = |story: &Story| {
        story
            .asked
            .iter()
            .filter(|(path, _)| *path == addr(2000))
            .count()
    };
    assert_eq!(asked(&story), 3);
    story.wait_until(start + Duration::from_secs(9));
    assert_eq!(asked(&story), 3);
    story.answer(2000);
    assert!(story.ice.holds(story.now, addr(2000)));
    assert!(!story.ice.holds(story.now + HOLD, addr(2000)));
}

#[test]
fn nobody_is_asked_before_there_is_anything_to_lose() {
    let mut story = Story::new();
    for port in [1000, 2000, 1000, 2000] {
        story.wait(1);
        story.nominate(port);
        story.ping(port);
    }
    assert_eq!(story.asked, []);
    story.handshake();
    assert!(story.ice.is_selected_proved());
    assert!(story.asked(1000).is_some() && story.asked(2000).is_some());
}

#[test]
fn a_handshake_by_two_ways_proves_neither() {
    let mut story = Story::new();
    story.nominate(1000);
    story.ice.handle_flight();
    // From a forged address, say.
    story.wait(5).nominate(2000);
    assert_eq!(story.ice.selected(), Some(addr(2000)));
    story.handshake();
    assert!(!story.ice.is_selected_proved());
    assert!(story.asked(1000).is_some() && story.asked(2000).is_some());
    story.answer(2000);
    assert!(story.ice.is_selected_proved());
}

#[test]
fn a_client_that_answers_nothing_keeps_its_way() {
    let mut story = Story::new();
    story.nominate(1000);
    story.handshake();
    for _ in 0..100 {
        story.media(1000);
        let next = story.now + Duration::from_secs(2);
        assert_eq!(story.wait_until(next), None);
        story.nominate(1000);
        story.nominate(2000);
    }
    assert_eq!(story.ice.selected(), Some(addr(1000)));
}

#[test]
fn a_nomination_may_have_the_transaction_of_the_check_before() {
    let mut story = Story::new();
    story.nominate(1000);
    let check = story.request(false);
    story.take(2000, &check);
    story.transaction -= 1;
    let nomination = story.request(true);
    assert_eq!(story.take(2000, &nomination).selected, Some(addr(2000)));
    for repeated in [&check, &nomination] {
        assert!(story.take(2000, repeated).is_repeated);
    }
}

#[test]
fn whoever_sends_on_checks_and_questions_too_loses_what_that_has_won() {
    let mut story = Story::connected();
    let check = story.request(true);
    assert_eq!(story.take(6666, &check).selected, None);
    // What she was asked she has asked the client, in our name.
    let answer = story.answer_of(6666);
    assert_eq!(story.take(1000, &check).selected, None);
    let selected = story.ice.handle_answer(story.now, addr(6666), &answer);
    assert_eq!(selected, Ok(None));
    // If she is faster than that as well.
    let check = story.request(true);
    story.take(6667, &check);
    assert_eq!(story.answer(6667), Some(addr(6667)));
    assert_eq!(
        story.pause(10).take(1000, &check).selected,
        Some(addr(1000))
    );
    assert!(!story.ice.holds(story.now, addr(6667)));
}

#[test]
fn whoever_is_connected_is_asked_wherever_it_comes_from() {
    let mut story = Story::new();
    let packet = story.request(true);
    let (now, tcp) = (story.now, connection(1, 1000));
    let checked = story
        .ice
        .handle_stun(now, tcp, &packet, true, &mut story.reply);
    assert_eq!(checked.unwrap().selected, Some(tcp));
    story.handshake();
    story.ice.handle_closed(tcp);
    assert_eq!(story.ping(2000).selected, Some(addr(2000)));
    assert!(!story.ice.is_selected_proved());
    // As often as what comes allows, until it answers.
    for _ in 0..3 {
        assert!(story.asked(2000).is_some());
        story.asked.clear();
        let next = story.now + 2 * pair::PING;
        assert_eq!(story.wait_until(next), None);
        story.ping(2000);
    }
    story.answer(2000);
    assert!(story.ice.is_selected_proved());
}

#[test]
fn a_repeated_check_from_elsewhere_is_nothing() {
    let mut story = Story::connected();
    let check = story.request(true);
    story.take(1000, &check);
    let lost = story.now + CONSENT_TIMEOUT;
    story.wait(1);
    assert_eq!(story.handle(2000, &check), Err(StunDrop::Repeated));
    assert_eq!((&story.reply[..], story.asked(2000)), (&[][..], None));
    assert!(!story.ice.is_validated(addr(2000)));
    // From where it was for it is answered, but is no consent.
    let again = story.take(1000, &check);
    assert!(again.is_repeated && again.selected.is_none());
    assert_eq!(story.wait_until(lost + CONSENT_TIMEOUT), Some(lost));
}

#[test]
fn of_two_who_make_one_check_it_is_the_one_who_answers() {
    let mut story = Story::new();
    // Hers is first; his is the one it was made for.
    let check = story.request(true);
    assert_eq!(story.take(6666, &check).selected, Some(addr(6666)));
    let his = story.handle(1000, &check).unwrap();
    assert!(his.is_doubted && his.selected.is_none());
    assert_eq!(story.reply, []);
    assert!(!story.ice.is_validated(addr(1000)));
    assert_eq!(story.answer(1000), Some(addr(1000)));
    assert!(story.ice.is_validated(addr(1000)));
    for _ in 0..5 {
        story.wait(1);
        let check = story.request(true);
        assert_eq!(story.take(6666, &check).selected, None);
        assert_eq!(story.take(1000, &check).selected, None);
        story.media(1000);
    }
    assert_eq!(story.ice.selected(), Some(addr(1000)));
}

#[test]
fn nobody_is_followed_to_where_media_alone_has_come_from() {
    let mut story = Story::connected();
    story.wait(1);
    story.ping(2000);
    for _ in 0..100 {
        assert_eq!(story.pause(100).media(2000), None);
    }
    // Not even when there is nothing any more where it was; then the next check is followed.
    assert_eq!(story.ice.selected(), Some(addr(1000)));
    assert_eq!(story.nominate(2000).selected, Some(addr(2000)));
}

#[test]
fn somebody_who_was_followed_in_a_silence_loses_to_whom_the_client_is_with() {
    let mut story = Story::connected();
    // Of an hour ago, say.
    story.wait(1);
    story.is_silent = true;
    let hers = story.nominate(6666);
    assert_eq!((hers.selected, hers.resumes), (Some(addr(6666)), true));
    story.is_silent = false;
    assert_eq!(story.pause(100).media(1000), Some(addr(1000)));
    // By a check as well.
    story.is_silent = true;
    story.nominate(6667);
    story.is_silent = false;
    assert_eq!(story.ping(1000).selected, Some(addr(1000)));
}

#[test]
fn three_times_what_has_come_may_be_sent_before_a_proof() {
    let mut story = Story::new();
    let check = story.request(true);
    story.take(1000, &check);
    let allowed = 3 * (HEADERS + check.len());
    assert!(!story.ice.is_selected_proved());
    let small = 100 - HEADERS;
    let mut sent = 0;
    while story.ice.spend(addr(1000), small) {
        sent += 100;
    }
    assert!(
        sent <= allowed && sent + 100 > allowed,
        "{sent} of {allowed}"
    );
    story.ice.earn(addr(1000), 1000);
    assert!(story.ice.spend(addr(1000), 3000) && !story.ice.spend(addr(1000), 1000));
    story.media(1000);
    assert!(!story.ice.is_selected_proved(), "it may be forged");
    story.handshake();
    assert!(story.ice.is_selected_proved());
    assert!((0..1000).all(|_| story.ice.spend(addr(1000), 1200)));
    // A connection has been asked by its handshake.
    let packet = story.request(true);
    let (now, path) = (story.now, connection(1, 1000));
    let checked = story
        .ice
        .handle_stun(now, path, &packet, true, &mut story.reply);
    assert!(checked.is_ok() && story.ice.spend(path, 100_000));
}

#[test]
fn somebody_who_answers_is_asked_while_nothing_else_comes() {
    let mut story = Story::connected();
    let start = story.now;
    for n in 1..=20 {
        story.asked.clear();
        let checked = start + Duration::from_secs(3 * n);
        assert_eq!(story.wait_until(checked), None);
        assert!(story.asked(1000).is_some());
        story.answer(1000);
        assert!(story.ice.holds(story.now, addr(1000)));
        story.ping(1000);
    }
    // Media is as good as an answer.
    story.asked.clear();
    for _ in 0..100 {
        let next = story.now + Duration::from_millis(100);
        assert_eq!(story.wait_until(next), None);
        story.media(1000);
    }
    assert_eq!(story.asked, []);
}

#[test]
fn checks_alone_are_not_consent_of_somebody_who_answers() {
    let mut story = Story::connected();
    let lost = story.now + CONSENT_TIMEOUT;
    for n in 1..30 {
        let next = lost - CONSENT_TIMEOUT + Duration::from_secs(n);
        assert_eq!(story.wait_until(next), None);
        story.nominate(1000);
    }
    assert_eq!(story.wait_until(lost + CONSENT_TIMEOUT), Some(lost));
    // A restart is given its time.
    let mut story = Story::connected();
    story.wait(20).restart(2);
    let restarted = story.now;
    let lost = story.wait_until(restarted + 2 * CONSENT_TIMEOUT);
    assert_eq!(lost, Some(restarted + CONSENT_TIMEOUT));
}

#[test]
fn after_a_restart_it_is_the_new_credentials_that_answers_prove() {
    let mut story = Story::connected();
    story.restart(2);
    story.nominate(2000);
    assert_eq!(story.answer(2000), Some(addr(2000)));
    // What was asked with the former ones proves nothing any more.
    story.ping(3000);
    let answer = story.answer_of(3000);
    story.restart(3);
    story.ping(2000);
    let late = story.ice.handle_answer(story.now, addr(3000), &answer);
    assert_eq!(late, Err(StunDrop::UnexpectedAnswer));
}

#[test]
fn of_too_many_ways_those_that_have_proved_nothing_go_first() {
    let mut story = Story::connected();
    story.ping(1001);
    story.answer(1001);
    for port in 2000..3000 {
        story.pause(10);
        story.ping(port);
    }
    let kept: Vec<_> = story.ice.validated().collect();
    assert_eq!(kept.len(), MAX_VALIDATED);
    assert!(kept.contains(&addr(1000)) && kept.contains(&addr(1001)));
}
