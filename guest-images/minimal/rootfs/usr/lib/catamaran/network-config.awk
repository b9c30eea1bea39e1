# Reads a network-config of version 2 (or the `network:` of it) and prints one line per statement:
#   IFACE dhcp4 yes|no / IFACE dhcp6 yes|no / IFACE mac M / IFACE address A / IFACE gateway G / IFACE dns D / IFACE mtu N
function unquote(s) { gsub(/^[ "']+|[ "']+$/, "", s); return s }
function values(what, text,    n, i, parts) {
    sub(/^\[/, "", text); sub(/\][ ]*$/, "", text); n = split(text, parts, ",")
    for (i = 1; i <= n; i++) if (unquote(parts[i]) != "") print iface, what, unquote(parts[i])
}
/^[ ]*#/ || !/[^ ]/ { next }
{
    indent = match($0, /[^ ]/) - 1
    text = substr($0, indent + 1)
    key = text; sub(/:.*/, "", key)
    value = text; sub(/^[^:]*:[ ]*/, "", value)
    if (key == "ethernets") { base = indent; inside = 1; iface_indent = -1; next }
    if (!inside) next
    if (indent <= base) { inside = 0; next }
    if (iface_indent < 0) iface_indent = indent
    if (indent == iface_indent) { iface = unquote(key); list = ""; next }
    if (text ~ /^- /) {
        item = substr(text, 3)
        if (list == "routes") { if (item ~ /^via:/) print iface, "gateway", unquote(substr(item, 5)) }
        else if (list != "") print iface, list, unquote(item)
        next
    }
    if (key == "dhcp4" || key == "dhcp6") { print iface, key, (value ~ /^(true|yes|on)/ ? "yes" : "no"); list = "" }
    else if (key == "macaddress") print iface, "mac", tolower(unquote(value))
    else if (key == "mtu") print iface, "mtu", unquote(value)
    else if (key == "gateway4" || key == "gateway6") print iface, "gateway", unquote(value)
    else if (key == "via") print iface, "gateway", unquote(value)
    else if (key == "addresses") { what = (section == "nameservers" && indent > section_indent) ? "dns" : "address"; if (value != "") values(what, value); else list = what; next }
    else if (key == "nameservers") { section = "nameservers"; section_indent = indent; list = ""; next }
    else if (key == "routes") { list = "routes"; next }
    else if (key == "search" || key == "match" || key == "to") { next }
    if (indent <= section_indent) section = ""
}
