# To be sourced by the scripts of peers in Python, with the folder of their requirements.txt: `python` is then that of an
# environment that has them, made here once for each list of requirements.
venv_of() {
    local cache want draft
    cache="${XDG_CACHE_HOME:-$HOME/.cache}/gretchen/peers-$(basename "$1")"
    want="$cache/$(sha256sum "$1/requirements.txt" | cut -c1-12)"
    if [ ! -d "$want" ]; then
        mkdir -p "$cache"
        draft="$(mktemp -d "$cache/draft.XXXXXX")"
        { python3 -m venv "$draft" && "$draft/bin/python" -m pip install --quiet -r "$1/requirements.txt"; } >&2
        # The programs in it name the place where they were made, and are not used.
        mv -T "$draft" "$want" 2> /dev/null || rm -rf "$draft"
    fi
    python="$want/bin/python"
}
