gretchen::records!(
    "../../../../macros/ui/tests/ui/records/types_clash.avsc",
    "../../../../macros/ui/tests/ui/records/types_clash_2.avsc",
    namespaces = flat,
);

fn main() {}
