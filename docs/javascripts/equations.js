// Renders the equations of a page with KaTeX; without a network they stay as they were written.
document$.subscribe(({ body }) => {
  if (window.renderMathInElement) {
    renderMathInElement(body, { delimiters: [{ left: "\\(", right: "\\)" }, { left: "\\[", right: "\\]", display: true }] })
  }
})
