gretchen::records!("../../../../macros/ui/tests/ui/records/unions_clash.avsc");

fn main() {}
