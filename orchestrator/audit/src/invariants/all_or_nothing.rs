//! 3: the sections of one registration share one outcome: every add and every drop was committed, or none.

use crate::report::Verdict;
use crate::world::World;

pub fn prove(world: &World<'_>) -> Verdict {
    let mut verdict = Verdict::new(3, "all or nothing");
    for registration in world.all_settled() {
        let id = registration.registration_id.as_str();
        let adds = registration.adds.iter().map(|section| (section, world.has_added(id, section)));
        let drops = registration.drops.iter().map(|section| (section, world.has_dropped(id, section)));
        let (done, undone): (Vec<_>, Vec<_>) = adds.chain(drops).partition(|(_, happened)| *happened);
        verdict.require(done.is_empty() || undone.is_empty(), || {
            format!("registration {id}: done for {}, but not for {}", names(&done), names(&undone))
        });
    }
    verdict
}

fn names(sections: &[(&String, bool)]) -> String {
    let names: Vec<&str> = sections.iter().map(|(section, _)| section.as_str()).collect();
    names.join(", ")
}
