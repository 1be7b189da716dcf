//! Commits by transaction.

use std::sync::Arc;

use super::{Subject, frame_of, soon, values_in};
use crate::backend::{Assignment, AssignmentSet, Consumer, Membership, Transaction, Transactions};
use crate::error::{Error, ErrorKind, Result};
use crate::topic::{TopicPartition, TopicSpec};

fn transactions(subject: &Subject) -> Result<Arc<dyn Transactions>> {
    let missing = || Error::new(ErrorKind::Unsupported, "the backend says that it has transactions, and has none");
    subject.backend.transactions().ok_or_else(missing)
}

/// A topic with two partitions, and a member of group `app` that owns both.
async fn member(subject: &Subject) -> Result<(TopicPartition, Box<dyn Consumer>, Membership)> {
    subject.backend.create_topic(&TopicSpec::new("orders", 2)).await?;
    let set = AssignmentSet { name: "orders".into(), partitions: 2, topics: vec!["orders".into()] };
    let mut consumer = subject.backend.consumer("app", &[set]).await?;
    let gained = soon("gaining units", consumer.assignment()).await?;
    assert!(matches!(&gained, Assignment::Gained(units) if units.len() == 2), "{gained:?}");
    let missing = || Error::new(ErrorKind::Unsupported, "a member has nothing to prove it by");
    let membership = consumer.membership().ok_or_else(missing)?;
    Ok((TopicPartition::new("orders", 0), consumer, membership))
}

/// What is committed is seen soon after.
async fn until_seen(subject: &Subject, place: &TopicPartition, want: &[&str]) -> Result<()> {
    soon("seeing what was committed", async {
        while values_in(subject, place)? != want {
            tokio::task::yield_now().await;
        }
        Ok(())
    })
    .await
}

async fn add(transaction: &mut Box<dyn Transaction>, to: &TopicPartition, values: &[&str]) -> Result<()> {
    transaction.append(to, &mut frame_of(values)).await
}

/// Nothing of a transaction is seen before it is committed, and all of it soon after: records in several partitions, and the
/// group's positions.
pub async fn a_transaction_counts_whole_and_with_its_positions(subject: Subject) -> Result<()> {
    let (place, _consumer, membership) = member(&subject).await?;
    let other = TopicPartition::new("orders", 1);
    let mut one = transactions(&subject)?.open("one").await?;
    let replay = subject.replay()?;
    for round in 1..=3 {
        one.begin().await?;
        add(&mut one, &place, &["a", "b"]).await?;
        add(&mut one, &other, &["c"]).await?;
        add(&mut one, &place, &["d"]).await?;
        assert_eq!(values_in(&subject, &place)?.len(), 3 * (round - 1));
        let committed =
            one.commit(&membership, &[(place.clone(), 7), (other.clone(), round as u64)], round as u64).await?;
        until_seen(&subject, &place, &["a", "b", "d"].repeat(round)).await?;
        until_seen(&subject, &other, &["c"].repeat(round)).await?;
        assert_eq!(replay.position("app", &place)?, Some(7));
        assert_eq!(replay.position("app", &other)?, Some(round as u64));
        // Where commits count whole the backend may know of which one a position is, and then it is this.
        let of_commit = replay.commit_of_position("app", &other)?;
        assert!(of_commit.is_none_or(|number| number == round as u64), "{of_commit:?}");
        for (to, last) in committed {
            // Behind the last record there is at most the mark of the transaction.
            assert!((last + 1..=last + 2).contains(&subject.end(&to)?), "{to} {last}");
        }
    }
    Ok(())
}

/// Whoever opens transactions of a name anew ends what is on its way under it, and shuts out who had them before.
pub async fn who_opens_anew_shuts_the_owner_out(subject: Subject) -> Result<()> {
    let (place, _consumer, membership) = member(&subject).await?;
    let mut one = transactions(&subject)?.open("task").await?;
    one.begin().await?;
    add(&mut one, &place, &["first"]).await?;
    one.commit(&membership, &[(place.clone(), 1)], 1).await?;
    one.begin().await?;
    add(&mut one, &place, &["lost"]).await?;
    let mut two = transactions(&subject)?.open("task").await?;
    match one.commit(&membership, &[(place.clone(), 2)], 2).await {
        Err(error) => assert_eq!(error.kind(), ErrorKind::Unsettled, "{error}"),
        Ok(committed) => panic!("committed after it was shut out: {committed:?}"),
    }
    assert_eq!(subject.replay()?.position("app", &place)?, Some(1));
    two.begin().await?;
    add(&mut two, &place, &["second"]).await?;
    two.commit(&membership, &[(place.clone(), 3)], 3).await?;
    until_seen(&subject, &place, &["first", "second"]).await?;
    assert_eq!(subject.replay()?.position("app", &place)?, Some(3));
    Ok(())
}

/// What was appended and not committed when its owner went is never seen, and holds nobody up once there is a new owner.
pub async fn what_was_not_committed_is_never_seen(subject: Subject) -> Result<()> {
    let (place, _consumer, membership) = member(&subject).await?;
    let mut one = transactions(&subject)?.open("task").await?;
    one.begin().await?;
    add(&mut one, &place, &["never", "seen"]).await?;
    drop(one);
    let mut two = transactions(&subject)?.open("task").await?;
    assert!(values_in(&subject, &place)?.is_empty());
    two.begin().await?;
    add(&mut two, &place, &["seen"]).await?;
    two.commit(&membership, &[], 1).await?;
    until_seen(&subject, &place, &["seen"]).await
}
