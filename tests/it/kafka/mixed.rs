//! A group whose members are of this build and of others: all of them share, whoever leads.

use std::sync::Arc;
use std::time::Duration;

use gretchen::backend::kafka::KafkaBackend;
use gretchen::backend::{Assignment, AssignmentSet, Backend, Consumer, Copies, Unit};
use gretchen::clock::Clock;
use gretchen::topic::TopicSpec;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use super::stage::PATIENCE;
use super::{broker, fresh_prefix, options};

const UNITS: u32 = 4;

/// A member as older builds are: librdkafka's, with its own strategy.
fn other_member(prefix: &str) -> BaseConsumer {
    let other: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker())
        .set("group.id", format!("{prefix}shared"))
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", "6000")
        .create()
        .unwrap();
    other.subscribe(&[&format!("{prefix}orders")]).unwrap();
    other
}

/// A member of this build, and what it has.
struct Ours {
    consumer: Box<dyn Consumer>,
    units: Vec<Unit>,
    standbys: usize,
}

impl Ours {
    /// Follows the group for a moment.
    async fn follow(&mut self, clock: &Clock) {
        tokio::select! {
            change = self.consumer.assignment() => match change.unwrap() {
                Assignment::Gained(units) => self.units.extend(units),
                Assignment::Wanted(units) => {
                    for unit in units {
                        self.units.retain(|have| *have != unit);
                        self.consumer.release(unit).await.unwrap();
                    }
                }
                Assignment::Lost(units) => self.units.retain(|have| !units.contains(have)),
                Assignment::Standbys(standbys) => self.standbys = standbys.len(),
                Assignment::Withheld(_) => {}
            },
            () = clock.sleep(Duration::from_millis(20)) => {}
        }
    }
}

/// Waits until each has so many.
async fn share(ours: &mut [&mut Ours], other: Option<&BaseConsumer>, want: (&[usize], usize)) {
    let clock = Clock::system();
    let began = clock.moment();
    loop {
        for one in ours.iter_mut() {
            one.follow(&clock).await;
        }
        let others = other.map_or(0, |other| {
            let _ = other.poll(Duration::from_millis(20));
            other.assignment().unwrap().count()
        });
        let have: Vec<usize> = ours.iter().map(|one| one.units.len()).collect();
        if (&*have, others) == want {
            return;
        }
        assert!(clock.moment().since(began) < PATIENCE, "{have:?} and {others}, wanted are {want:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_other_builds_share_in_both_directions() {
    let prefix = fresh_prefix();
    let backend: Arc<dyn Backend> = Arc::new(KafkaBackend::open(options(&prefix), Clock::system()).unwrap());
    backend.create_topic(&TopicSpec::new("orders", UNITS)).await.unwrap();
    let sets = [AssignmentSet { name: "partitions".into(), partitions: UNITS, topics: vec!["orders".into()] }];
    let join = async |place: &str| {
        let consumer =
            backend.consumer_with("shared", &sets, Arc::new(Copies::new(1, place.to_owned()))).await.unwrap();
        Ours { consumer, units: Vec::new(), standbys: 0 }
    };

    // The other one leads.
    let other = other_member(&prefix);
    share(&mut [], Some(&other), (&[], 4)).await;
    let mut first = join("a").await;
    share(&mut [&mut first], Some(&other), (&[2], 2)).await;
    drop(other);
    share(&mut [&mut first], None, (&[4], 0)).await;
    assert_eq!(first.standbys, 0);

    // One of ours leads. The first of two keeps what it has until the second is warm.
    let mut second = join("b").await;
    let clock = Clock::system();
    let began = clock.moment();
    while second.standbys == 0 {
        assert!(clock.moment().since(began) < PATIENCE, "the second is not told to keep any");
        first.follow(&clock).await;
        second.follow(&clock).await;
    }
    assert_eq!((first.units.len(), second.units.len()), (4, 0));

    // Nobody keeps standbys while another one is there, and all share.
    let other = other_member(&prefix);
    let began = clock.moment();
    while first.units.is_empty() || second.units.is_empty() || other.assignment().unwrap().count() == 0 {
        first.follow(&clock).await;
        second.follow(&clock).await;
        let _ = other.poll(Duration::from_millis(20));
        assert!(
            clock.moment().since(began) < PATIENCE,
            "{:?}, {:?}, {:?}",
            first.units,
            second.units,
            other.assignment()
        );
    }
    assert_eq!((first.standbys, second.standbys), (0, 0));
}
