gretchen::records!("../../../../macros/ui/tests/ui/records/branch_twice.avsc");

fn main() {}
