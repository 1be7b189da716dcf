gretchen::records!("../../../../macros/ui/tests/ui/records/module_clash.avsc");

fn main() {}
