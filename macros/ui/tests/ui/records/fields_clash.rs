gretchen::records!("../../../../macros/ui/tests/ui/records/fields_clash.avsc");

fn main() {}
