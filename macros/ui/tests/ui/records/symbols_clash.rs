gretchen::records!("../../../../macros/ui/tests/ui/records/symbols_clash.avsc");

fn main() {}
