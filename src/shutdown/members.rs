//! [`Members`]: the connections of one shard of a [`Shutdown`](super::Shutdown).

use std::sync::{Arc, Weak};

use super::{Ended, Member};

/// See the module docs. A connection has a place until it ends, in 18 bytes and what the list has in
/// reserve; a hash map would have 34 to 68.
#[derive(Default)]
pub(super) struct Members {
    places: Vec<Place>,
    /// Of those in the same places.
    stages: Vec<Stage>,
    /// The first place that is free.
    gap: Option<u32>,
    len: usize,
    /// How the connections ended that are no longer here, counted from the first drain on. No
    /// connection is added from then on, so all drains count the same ones.
    pub(super) ended: Ended,
}

enum Place {
    Taken(Weak<dyn Member>),
    /// With the next one that is free.
    Free(Option<u32>),
}

#[derive(Clone, Copy, Default)]
struct Stage {
    opened: bool,
    /// The deadline of a drain has passed; if there are several, of any of them.
    forced: bool,
}

/// Connections that an empty shard keeps room for, so that the only one that comes and goes does not
/// allocate it each time.
const KEPT: usize = 16;

impl Members {
    /// Gives its place. `None`: there are four billion already.
    pub(super) fn add(&mut self, member: Weak<dyn Member>) -> Option<u32> {
        let place = match self.gap {
            Some(place) => place,
            None => u32::try_from(self.places.len()).ok()?,
        };
        match self.places.get_mut(place as usize) {
            Some(here) => {
                if let Place::Free(next) = here {
                    self.gap = *next;
                }
                *here = Place::Taken(member);
            }
            None => {
                self.grow();
                self.places.push(Place::Taken(member));
                self.stages.push(Stage::default());
            }
        }
        self.len += 1;
        Some(place)
    }

    /// By a quarter: twice as much, as a `Vec` grows, is a third of all that is held.
    fn grow(&mut self) {
        if self.places.len() == self.places.capacity() {
            let more = (self.places.len() / 4).max(KEPT);
            self.places.reserve_exact(more);
            self.stages.reserve_exact(more);
        }
    }

    pub(super) fn opened(&mut self, place: u32) {
        if let Some(stage) = self.stages.get_mut(place as usize) {
            stage.opened = true;
        }
    }

    /// It has ended; `counts`: that is to be told.
    pub(super) fn remove(&mut self, place: u32, counts: bool) {
        let at = place as usize;
        let (Some(here), Some(stage)) = (self.places.get_mut(at), self.stages.get_mut(at)) else {
            return;
        };
        *here = Place::Free(self.gap.replace(place));
        let stage = std::mem::take(stage);
        if counts {
            self.ended.count(stage.opened, stage.forced);
        }
        self.len -= 1;
        if self.len == 0 {
            // A list that was long once must not keep its memory.
            self.places.clear();
            self.stages.clear();
            self.gap = None;
            if self.places.capacity() > KEPT {
                (self.places, self.stages) = (Vec::new(), Vec::new());
            }
        }
    }

    fn each(&self) -> impl Iterator<Item = (&Weak<dyn Member>, Stage)> {
        let places = self.places.iter().zip(&self.stages);
        places.filter_map(|(place, stage)| match place {
            Place::Taken(member) => Some((member, *stage)),
            Place::Free(_) => None,
        })
    }

    /// Those that are open.
    pub(super) fn open(&self) -> impl Iterator<Item = Arc<dyn Member>> {
        let open = self.each().filter(|(_, stage)| stage.opened);
        open.filter_map(|(member, _)| member.upgrade())
    }

    pub(super) fn collect(&self, to: &mut Vec<Weak<dyn Member>>) {
        to.extend(self.each().map(|(member, _)| member.clone()));
    }

    /// How many have not become a connection yet.
    pub(super) fn opening(&self) -> usize {
        self.each().filter(|(_, stage)| !stage.opened).count()
    }

    /// The deadline of a drain has passed for all.
    pub(super) fn force(&mut self) {
        for stage in &mut self.stages {
            stage.forced = true;
        }
    }

    /// How those ended that have, how all others would if they did now, and how many of them are open.
    pub(super) fn summary(&self) -> (Ended, usize) {
        let (mut ended, mut open) = (self.ended, 0);
        for (_, stage) in self.each() {
            ended.count(stage.opened, stage.forced);
            open += usize::from(stage.opened);
        }
        (ended, open)
    }
}

#[cfg(test)]
mod tests {
    use std::any::Any;

    use super::*;
    use crate::close::CloseFrame;

    struct Nobody(u64);

    impl Member for Nobody {
        fn key(&self) -> u64 {
            self.0
        }
        fn leave(&self, _: CloseFrame) {}
        fn abort(&self) {}
        fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
            self
        }
    }

    #[test]
    fn a_place_is_used_again_and_whoever_is_there_is_found() {
        assert_eq!((size_of::<Place>(), size_of::<Stage>()), (16, 2));
        let all: Vec<Arc<dyn Member>> = (0..1000).map(|n| Arc::new(Nobody(n)) as _).collect();
        let mut members = Members::default();
        let mut places: Vec<_> = all
            .iter()
            .map(|member| members.add(Arc::downgrade(member)).unwrap())
            .collect();
        let keys = |members: &Members| {
            let mut keys: Vec<_> = members.open().map(|member| member.key()).collect();
            keys.sort_unstable();
            keys
        };
        assert_eq!((keys(&members).len(), members.opening()), (0, 1000));
        for place in &places {
            members.opened(*place);
        }
        for n in (0..1000).step_by(3) {
            members.remove(places[n], false);
        }
        let left: Vec<u64> = (0..1000).filter(|n| n % 3 != 0).collect();
        assert_eq!(keys(&members), left);
        for n in (0..1000).step_by(3) {
            places[n] = members.add(Arc::downgrade(&all[n])).unwrap();
        }
        assert_eq!((members.places.len(), members.opening()), (1000, 334));
        assert!(members.places.capacity() < 1300);
        members.force();
        for place in places {
            members.remove(place, true);
        }
        let Ended {
            closed,
            forced,
            unopened,
        } = members.ended;
        assert_eq!((closed, forced, unopened), (0, 666, 334));
        assert_eq!(members.places.capacity(), 0);
    }
}
