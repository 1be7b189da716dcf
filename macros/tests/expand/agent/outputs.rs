#[agent(topic = "data", group = "EosTest", outputs = ["echo", "sum"])]
async fn add_up(data: Event<i32>, mut echo: Output<i32>, mut sum: Output<i64>) -> gretchen::Result<()> {
    Ok(())
}
