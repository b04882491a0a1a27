//! What loss costs: how late pictures are, how long they stand still, and what repair takes.

use std::time::Duration;

use confab_netem_tests::link::{GilbertElliott, Impairment, Loss};
use confab_netem_tests::virtual_time::call::{Call, Person, millis, secs};
use confab_netem_tests::virtual_time::client::publish;

/// Bytes of a picture: 1 Mbit/s at 30 a second, in four packets.
const PICTURE: u32 = 4200;

/// What one has of another.
#[derive(Clone, Copy, Debug)]
struct Cost {
    /// How late pictures are, in the middle.
    delay: Duration,
    /// The share of the time for which they stand still.
    frozen: f64,
    /// The longest that they do.
    longest: Duration,
    fps: f64,
    /// Retransmissions and FEC, for each byte of media.
    repair: f64,
}

/// Two behind links that lose this, both ways, with so much delay each: a minute of it, after a while to
/// get to know the links, as the mean of some seeds, and the longest standstill of all.
fn cost(loss: &Loss, one_way: Duration) -> Cost {
    const SEEDS: [u64; 3] = [80, 81, 82];
    let costs = SEEDS.map(|seed| {
        let mut call = Call::new(seed);
        let setup = publish().audio().video().frame_len(PICTURE).fec().patient();
        let [alice, bob] = ["alice", "bob"].map(|name| call.join(name, setup.clone()));
        for person in [alice, bob] {
            let change = |link: &mut Impairment| {
                link.delay = one_way;
                link.loss = loss.clone();
                link.jitter = millis(2);
            };
            call.up(person, change);
            call.down(person, change);
        }
        call.run(secs(15));
        let before = received(&mut call, bob);
        call.run(secs(60));
        let after = received(&mut call, bob);
        let [all, repair] = [0, 1].map(|n| (after[n] - before[n]) as f64);
        let seen = call.sees(bob, alice);
        let freezes = seen.freezes();
        let frozen: Duration = freezes.iter().sum();
        Cost {
            delay: seen.delay(0.5).unwrap_or(secs(60)),
            frozen: frozen.as_secs_f64() / 60.0,
            longest: freezes.into_iter().max().unwrap_or_default(),
            fps: seen.fps(),
            repair: repair / (all - repair),
        }
    });
    let mean = |of: fn(&Cost) -> f64| costs.iter().map(of).sum::<f64>() / costs.len() as f64;
    Cost {
        delay: Duration::from_secs_f64(mean(|cost| cost.delay.as_secs_f64())),
        frozen: mean(|cost| cost.frozen),
        longest: costs
            .iter()
            .map(|cost| cost.longest)
            .max()
            .unwrap_or_default(),
        fps: mean(|cost| cost.fps),
        repair: mean(|cost| cost.repair),
    }
}

/// The bytes of video that a person has received so far, and those of repair among them.
fn received(call: &mut Call, person: Person) -> [u64; 2] {
    let slots = call[person].slots.iter_mut();
    let seen = slots.flat_map(|slot| slot.take_seen().into_values());
    seen.fold([0, 0], |[all, repair], video| {
        let again = video.retransmitted_bytes + video.fec_bytes;
        [all + video.bytes, repair + again]
    })
}

/// Bursts of so many packets on average.
fn bursts(loss: f64, mean: f64) -> Loss {
    Loss::GilbertElliott(GilbertElliott::bursts(loss, mean))
}

/// What repair puts into a picture's numbers, or asks for too seldom, has it stand still.
#[test]
fn pictures_move_where_one_packet_in_ten_is_lost_on_both_links() {
    let cost = cost(&Loss::Random(0.1), millis(51));
    assert!(cost.frozen < 0.02 && cost.fps > 29.0, "{cost:?}");
}

/// Below the 400 ms of ITU-T G.114 with one packet in ten lost on both links, and less than 1.5 times the
/// media where it is one in three, three quarters of a second late at most.
#[test]
fn repair_is_quick_at_a_tenth_and_bounded_at_a_third() {
    let tenth = cost(&Loss::Random(0.1), millis(49));
    assert!(
        tenth.delay < millis(350) && tenth.frozen < 0.01,
        "{tenth:?}"
    );
    let third = cost(&Loss::Random(0.3), millis(51));
    assert!(
        third.delay < millis(750) && third.repair < 1.5 && third.frozen < 0.1,
        "{third:?}"
    );
}

#[test]
#[ignore = "prints a table, and takes a minute"]
fn what_repair_costs() {
    println!("loss           one way  delay  frozen  longest    fps  repair");
    let random = |share| {
        (
            format!("random {:.0} %", share * 100.0),
            Loss::Random(share),
        )
    };
    let mut rows = vec![];
    for share in [0.05, 0.1, 0.2, 0.3] {
        rows.extend([25, 49, 51].map(|one_way| (random(share), one_way)));
    }
    rows.push((("bursts of 4".into(), bursts(0.1, 4.0)), 50));
    rows.push((random(0.1), 150));
    for ((name, loss), one_way) in rows {
        let Cost {
            delay,
            frozen,
            longest,
            fps,
            repair,
        } = cost(&loss, millis(one_way));
        println!(
            "{name:<14} {one_way:>4} ms {:>4} ms {:>6.2} % {:>5} ms {fps:>6.1} {:>6.1} %",
            delay.as_millis(),
            frozen * 100.0,
            longest.as_millis(),
            repair * 100.0
        );
    }
}
