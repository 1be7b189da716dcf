//! The sales that every contestant gets.

use std::path::Path;
use std::sync::Arc;

use gretchen::backend::Backend;
use gretchen::backend::log::LogBackend;
use gretchen::prelude::*;
use gretchen::publish::Publisher;
use gretchen::record::Value;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rand_distr::Zipf;

use crate::agents::declared;
use crate::bench::Sale;

/// How the sales are spread over the customers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Distribution {
    /// Each customer as often as any other.
    Uniform,
    /// The customer of rank r as often as 1 / r.
    Zipf,
}

/// What is generated.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Workload {
    /// Sales in the log.
    #[arg(long, default_value_t = 20_000_000)]
    pub(crate) records: u64,
    /// Customers.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) keys: u64,
    /// How the sales are spread over the customers.
    #[arg(long, value_enum, default_value_t = Distribution::Uniform)]
    pub(crate) distribution: Distribution,
    /// Partitions of the topic.
    #[arg(long, default_value_t = 1)]
    pub(crate) partitions: u32,
}

impl Workload {
    /// Publishes the sales into a new folder; the same for every run.
    pub(crate) fn publish(&self, folder: &Path) -> Result<()> {
        // Planning an app makes the topic.
        drop(Session::open(App::new("fill").agent::<declared>(), LogOptions::new(folder), self.partitions)?);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        runtime.block_on(async {
            let backend: Arc<dyn Backend> = Arc::new(LogBackend::open(LogOptions::new(folder), Clock::system())?);
            self.publish_to(Publisher::open(&backend, "sales", Some("benchmark")).await?, 1_700_000_000_000).await
        })
    }

    /// Publishes the sales, a thousand a second from that time on, as far as their timestamps go.
    pub(crate) async fn publish_to(&self, mut publisher: Publisher, from_ms: i64) -> Result<()> {
        let mut wire = Vec::new();
        for (at, sale) in (0_i64..).zip(self.sales()?) {
            wire.clear();
            sale.encode_value(&mut wire)?;
            publisher.push(Some(sale.customer.as_bytes()), Some(&wire), from_ms + at).await?;
        }
        publisher.flush().await?;
        Ok(())
    }

    fn sales(&self) -> Result<impl Iterator<Item = Sale>> {
        let (keys, distribution) = (self.keys, self.distribution);
        let zipf = Zipf::new(keys as f64, 1.0)?;
        let mut random = SmallRng::seed_from_u64(7);
        Ok((0..self.records).map(move |sale_id| {
            let rank = match distribution {
                Distribution::Uniform => random.random_range(0..keys),
                Distribution::Zipf => random.sample(zipf) as u64 - 1,
            };
            // Quarters of a dollar, so that sums are exact in any order.
            let price = f64::from(random.random_range(0..40_000_u32)) / 4.0;
            Sale {
                sale_id: sale_id as i64,
                customer: format!("C{rank:06}"),
                price,
                quantity: random.random_range(0..5),
            }
        }))
    }
}
