gretchen::records!("../../../../macros/ui/tests/ui/records/logical_typo.avsc");

fn main() {}
