# Paragraphs of a source as HTML; the first line is the title.

NR == 1 { print "<h1>" escaped($0) "</h1>"; next }

/^[ \t]*$/ { close_paragraph(); next }

{
    if (!inside)
        print "<p>"
    inside = 1
    print escaped($0)
}

END { close_paragraph() }

function close_paragraph() {
    if (inside)
        print "</p>"
    inside = 0
}

function escaped(text) {
    gsub(/</, "\\&lt;", text)
    gsub(/>/, "\\&gt;", text)
    return text
}
