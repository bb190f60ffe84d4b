//! Histories in the test suite, and tests that a failing history can be replayed.

use std::time::Duration;

use matricula_simulation::{Budget, Simulation, campaign};

/// The bounds of one run of the suite. Each run begins at the next thousand seeds, so that many runs cover many
/// histories.
const HISTORIES: u64 = 20_000;
const TIME: Duration = Duration::from_secs(12);
/// Counts that few histories have; a test of its own covers them.
const RARE: [&str; 4] = ["withdrawn", "turned_back", "adopted_unsure", "given_up"];

fn first_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id()) % 1_000_000_000_000
}

#[test]
fn no_history_violates_an_invariant() {
    let first_seed = first_seed();
    println!("histories from seed {first_seed} on");
    let budget = Budget { first_seed, histories: HISTORIES, time: TIME };
    let campaign = campaign::run(&Simulation::default, budget, |_| {});
    println!("{} histories, {:.0} a second: {}", campaign.histories, campaign.rate(), campaign.tally);
    assert!(campaign.failed.is_none(), "{}", campaign.failure().unwrap_or_default());
    // A simulation in which nothing happens finds nothing. On a busy machine it may not get far.
    if campaign.histories >= 500 {
        let missing: Vec<&str> =
            campaign.tally.named().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect();
        let missing: Vec<&str> = missing.into_iter().filter(|name| !RARE.contains(name)).collect();
        assert_eq!(missing, ["open"], "of these there were none in {} histories", campaign.histories);
    }
}

/// A cancel or the deadline comes while a pivot is in flight, with each possible continuation.
#[test]
fn pivots_are_withdrawn_in_every_way() {
    let budget = Budget { first_seed: 1, histories: 20_000, time: 5 * TIME };
    let campaign = campaign::run(&Simulation::default, budget, |_| {});
    let counts: Vec<_> = campaign.tally.named().filter(|(name, _)| RARE.contains(name)).collect();
    println!("{} histories: {counts:?}", campaign.histories);
    assert!(campaign.failed.is_none(), "{}", campaign.failure().unwrap_or_default());
    // On a busy machine it may not get far.
    assert!(campaign.histories < 20_000 || counts.iter().all(|(_, count)| *count > 0), "{counts:?}");
}

#[test]
fn a_seed_gives_the_same_history_twice() {
    let simulation = Simulation::default();
    for seed in 0..50 {
        let (one, two) = (simulation.run_with_log(seed), simulation.run_with_log(seed));
        assert!(one.log.len() > 3, "seed {seed} has a log");
        assert_eq!(one.log, two.log, "seed {seed}");
        // Keeping the log changes nothing.
        assert_eq!(simulation.run(seed).tally, one.tally, "seed {seed}");
    }
    assert_ne!(simulation.run_with_log(0).log, simulation.run_with_log(1).log);
}
