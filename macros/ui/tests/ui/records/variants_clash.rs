gretchen::records!("../../../../macros/ui/tests/ui/records/variants_clash.avsc");

fn main() {}
