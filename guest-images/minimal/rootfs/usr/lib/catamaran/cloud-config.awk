# Reads the few parts of a #cloud-config that this guest understands and writes them below `out`:
#   hostname, keys, bootcmd.sh, runcmd.sh, and one file per entry of write_files.
# YAML here means what people write in practice: block lists, inline lists, block scalars; no anchors, no tabs.

function unquote(s) {
    sub(/^[ ]+/, "", s); sub(/[ ]+$/, "", s)
    if (s ~ /^".*"$/) { s = substr(s, 2, length(s) - 2); gsub(/\\"/, "\"", s); gsub(/\\\\/, "\\", s) }
    else if (s ~ /^'.*'$/) { s = substr(s, 2, length(s) - 2); gsub(/''/, "'", s) }
    return s
}
function quote(s) { gsub(/'/, "'\\''", s); return "'" s "'" }
function inline_command(s,    n, i, parts, line) {
    sub(/^\[[ ]*/, "", s); sub(/[ ]*\][ ]*$/, "", s)
    n = split_inline(s, parts)
    line = ""
    for (i = 1; i <= n; i++) line = line (i > 1 ? " " : "") quote(unquote(parts[i]))
    return line
}
function split_inline(s, parts,    n, i, c, q, cur) {
    n = 0; cur = ""; q = ""
    for (i = 1; i <= length(s); i++) {
        c = substr(s, i, 1)
        if (q != "") { cur = cur c; if (c == q && substr(s, i - 1, 1) != "\\") q = "" }
        else if (c == "\"" || c == "'") { q = c; cur = cur c }
        else if (c == ",") { parts[++n] = cur; cur = "" }
        else cur = cur c
    }
    if (cur ~ /[^ ]/) parts[++n] = cur
    return n
}
function emit(key, value) {
    if (key == "hostname" || key == "fqdn") { if (key == "hostname" || !named) { print value > (out "/hostname"); close(out "/hostname"); named = 1 } }
    else if (key == "ssh_authorized_keys") print value > (out "/keys")
    else if (key == "bootcmd") print value > (out "/bootcmd.sh")
    else if (key == "runcmd") print value > (out "/runcmd.sh")
}
function file_start() { file_path = ""; file_mode = ""; file_text = ""; file_open = 1 }
function file_end() {
    if (file_open && file_path != "") {
        files++
        printf "%s", file_text > (out "/file." files); close(out "/file." files)
        print "mkdir -p \"$(dirname " quote(file_path) ")\" && cp " out "/file." files " " quote(file_path) \
            " && chmod " (file_mode == "" ? "0644" : file_mode) " " quote(file_path) > (out "/files.sh")
    }
    file_open = 0
}
function item(text) {
    if (text ~ /^[|>][-+]?[ ]*$/) { block = "item"; block_indent = -1; block_text = ""; return }
    if (text ~ /^\[/) emit(key, (key == "runcmd" || key == "bootcmd") ? inline_command(text) : unquote(text))
    else emit(key, unquote(text))
}
function file_field(text,    k, v) {
    k = text; sub(/:.*/, "", k)
    v = text; sub(/^[^:]*:[ ]*/, "", v)
    if (k == "content" && v ~ /^[|>][-+]?[ ]*$/) { block = "file"; block_strip = (v ~ /-/); block_indent = -1; block_text = ""; return }
    if (k == "path") file_path = unquote(v)
    else if (k == "permissions") file_mode = unquote(v)
    else if (k == "content") file_text = unquote(v)
}
function block_end() {
    if (block == "item") emit(key, block_text)
    else if (block == "file") file_text = block_text
    block = ""
}
{ sub(/\r$/, "") }
block != "" {
    indent = match($0, /[^ ]/) - 1
    if ($0 !~ /[^ ]/) { block_text = block_text "\n"; next }
    if (block_indent < 0 && indent > parent_indent) block_indent = indent
    if (block_indent >= 0 && indent >= block_indent) { block_text = block_text substr($0, block_indent + 1) "\n"; next }
    block_end()
}
/^[ ]*#/ || !/[^ ]/ { next }
{
    indent = match($0, /[^ ]/) - 1
    text = substr($0, indent + 1)
    parent_indent = indent
    # ssh_authorized_keys counts at any depth: users have them too.
    if (text ~ /^(- )?ssh_authorized_keys:[ ]*(\[.*\])?[ ]*$/) {
        file_end(); list = "ssh_authorized_keys"; key = list; list_indent = indent
        value = text; sub(/^[^:]*:[ ]*/, "", value)
        if (value != "") {
            sub(/^\[/, "", value); sub(/\][ ]*$/, "", value); n = split_inline(value, parts)
            for (i = 1; i <= n; i++) emit(key, unquote(parts[i]))
        }
        next
    }
    if (indent == 0 && text !~ /^- /) {
        file_end()
        key = text; sub(/:.*/, "", key)
        value = text; sub(/^[^:]*:[ ]*/, "", value)
        list = key; list_indent = 0
        if (value != "") emit(key, unquote(value))
        next
    }
    if (list == "write_files") {
        if (text ~ /^- /) { file_end(); file_start(); text = substr(text, 3); parent_indent = indent + 2 }
        if (file_open) file_field(text)
        next
    }
    if (list == key && indent >= list_indent && text ~ /^- / && (key == "runcmd" || key == "bootcmd" || key == "ssh_authorized_keys")) {
        item(substr(text, 3)); next
    }
    if (list == "ssh_authorized_keys") list = ""
}
END { if (block != "") block_end(); file_end() }
