// Three short texts: one that a person must decide about, one with a secret in it, and one that is harmless.

export const samples = [
  {
    name: 'services-agreement.txt',
    text: `Services Agreement

1. Services. The Supplier will run and maintain the Customer's ordering system and answer support requests on working days.

2. Fees. The Customer shall pay EUR 4,800 each month, within 30 days of the invoice. A late fee of two percent is added for
every month of delay.

3. Term. This agreement lasts for two years. Either party may terminate this agreement with a notice of ninety days, in writing.
The Supplier may suspend the services without notice when an invoice is overdue.

4. Changes. The Supplier may change the scope of the services from time to time, at its sole discretion.

5. Liability. In no event shall the Supplier be liable for consequential damages, lost profits or lost data. The Customer shall
indemnify and hold the Supplier harmless against all claims that third parties raise because of the Customer's content.

6. Data. The Supplier processes personal data of the Customer's buyers, such as names, addresses and dates of birth, and may share
usage figures with partners.

7. Law. This agreement is governed by the laws of the Netherlands. The courts of Utrecht have exclusive jurisdiction.
`,
  },
  {
    name: 'deploy-notes.md',
    text: `# Deploying the shop

These notes are for whoever is on call. The shop is built by the pipeline and installed by one command.

## Steps

1. Tag the release and wait until the pipeline is green.
2. Run the migration against the copy first, then against the live database.
3. Restart the workers one after the other.

## When something goes wrong

Run the rollback script. It restores the last image, but rows written in between cannot be undone, so tell support first.
Do not disable TLS verification to get past an expired certificate.

\`\`\`
export SHOP_HOST=shop.example
export API_TOKEN=tk4f9a81c27de605b3
\`\`\`

To be decided: who may approve a deployment on a Friday is still an open question.
`,
  },
  {
    name: 'picnic.txt',
    text: `Summer picnic

We meet on Saturday at noon on the lawn behind the library. Bring a blanket, something to share and good company.
The choir sings at two. Children can paint the long paper wall beside the pond, and the bookshop lends its old deck chairs.
If it rains, we move to the reading room, which has a piano and far too many cushions.
Everybody on the street is welcome, and so are their guests.
`,
  },
];
