#[agent(topics = ["orders", "returns"], concurrency = 4, on_error = dead_letter("failed"), name = "notifier")]
async fn notify(event: Event<model::Order>) -> Result<(), String> {
    Ok(())
}
