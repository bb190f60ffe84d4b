-- Rows of fees as a build has left them whose last migration is 0101.
-- ms:-5 in braces stands for the time 5 ms ago.
INSERT INTO barrier (saga_id, step, answer, undone, recorded_at) VALUES
('01a22e5d-2372-73dc-b005-af1718973d85', 'assess_fees', '{"done":{"amount":{"currency":"USD","minor_units":270000}}}', 0, {ms:-7625}),
('01a22e5d-2393-70e2-b8a9-5e6f3c1e49e0', 'assess_fees', '{"done":{"amount":{"currency":"USD","minor_units":270000}}}', 0, {ms:-7574}),
('01a22e5d-23e6-714a-84e6-684584233523', 'assess_fees', '{"done":{"amount":{"currency":"USD","minor_units":270000}}}', 0, {ms:-7489}),
('01a22e5d-244c-7149-bf9f-c0c2efd19271', 'assess_fees', '{"done":{"amount":{"currency":"USD","minor_units":270000}}}', 0, {ms:-7405}),
('01a22e5d-247e-7505-92d8-860340af1e0b', 'assess_fees', '{"done":{"amount":{"currency":"USD","minor_units":135000}}}', 0, {ms:-7361}),
('01a22e5d-24b0-728b-9511-1ac34caa424d', 'assess_fees', '{"done":{"amount":{"currency":"USD","minor_units":135000}}}', 0, {ms:-7309}),
('01a22e5d-2532-7406-b53b-b70f031eef72', 'assess_fees', '{"done":{"amount":{"currency":"USD","minor_units":135000}}}', 0, {ms:-7164}),
('01a22e5d-2532-7406-b53b-b710ddc98ecb', 'assess_fees', '{"done":{"amount":{"currency":"USD","minor_units":135000}}}', 0, {ms:-7160}),
('01a22e5d-2533-7390-8547-928442f158b6', 'assess_fees', '{"done":{"amount":{"currency":"USD","minor_units":135000}}}', 0, {ms:-7160}),
('01a22e5d-253e-7573-9ddb-fd14f7d98073', 'assess_fees', '{"done":{"amount":{"currency":"USD","minor_units":135000}}}', 0, {ms:-7160}),
('01a22e5d-253e-7573-9ddb-fd14f7d98073', 'refund_fees', '{"done":{"amount":{"currency":"USD","minor_units":-135000}}}', 0, {ms:-7154});
DELETE FROM import_version;
INSERT INTO import_version (one, version) VALUES
(1, 1);
INSERT INTO currency (id, code) VALUES
(1, 'USD');
INSERT INTO terms (term_id, per_credit, refund_ladder, balance_limit, charges) VALUES
('2099-fall', 45000, '[[4091904000000,100],[4092508800000,75],[4093113600000,50],[4093718400000,25]]', NULL, 1);
INSERT INTO course_fees (course_id, minor_units) VALUES
('C001', 7500);
INSERT INTO postings (registration_id, section_id, kind, student_id, term_id, minor_units, caused_by_registration_id, posted_at) VALUES
('01a22e5d-2372-73dc-b005-af1718973d85', 'C002-L2', 'CHARGE', 'S000001', '2099-fall', 135000, '01a22e5d-2372-73dc-b005-af1718973d85', {ms:-7625}),
('01a22e5d-2372-73dc-b005-af1718973d85', 'C003-L1', 'CHARGE', 'S000001', '2099-fall', 135000, '01a22e5d-2372-73dc-b005-af1718973d85', {ms:-7625}),
('01a22e5d-2393-70e2-b8a9-5e6f3c1e49e0', 'C002-L2', 'CHARGE', 'S000002', '2099-fall', 135000, '01a22e5d-2393-70e2-b8a9-5e6f3c1e49e0', {ms:-7574}),
('01a22e5d-2393-70e2-b8a9-5e6f3c1e49e0', 'C003-L1', 'CHARGE', 'S000002', '2099-fall', 135000, '01a22e5d-2393-70e2-b8a9-5e6f3c1e49e0', {ms:-7574}),
('01a22e5d-23e6-714a-84e6-684584233523', 'C002-L2', 'CHARGE', 'S000003', '2099-fall', 135000, '01a22e5d-23e6-714a-84e6-684584233523', {ms:-7489}),
('01a22e5d-23e6-714a-84e6-684584233523', 'C003-L1', 'CHARGE', 'S000003', '2099-fall', 135000, '01a22e5d-23e6-714a-84e6-684584233523', {ms:-7489}),
('01a22e5d-244c-7149-bf9f-c0c2efd19271', 'C002-L2', 'CHARGE', 'S000004', '2099-fall', 135000, '01a22e5d-244c-7149-bf9f-c0c2efd19271', {ms:-7405}),
('01a22e5d-244c-7149-bf9f-c0c2efd19271', 'C003-L1', 'CHARGE', 'S000004', '2099-fall', 135000, '01a22e5d-244c-7149-bf9f-c0c2efd19271', {ms:-7405}),
('01a22e5d-247e-7505-92d8-860340af1e0b', 'C002-L1', 'CHARGE', 'S000005', '2099-fall', 135000, '01a22e5d-247e-7505-92d8-860340af1e0b', {ms:-7361}),
('01a22e5d-24b0-728b-9511-1ac34caa424d', 'C002-L1', 'CHARGE', 'S000006', '2099-fall', 135000, '01a22e5d-24b0-728b-9511-1ac34caa424d', {ms:-7309}),
('01a22e5d-2532-7406-b53b-b70f031eef72', 'C002-L2', 'CHARGE', 'S000009', '2099-fall', 135000, '01a22e5d-2532-7406-b53b-b70f031eef72', {ms:-7164}),
('01a22e5d-2532-7406-b53b-b710ddc98ecb', 'C002-L2', 'CHARGE', 'S000008', '2099-fall', 135000, '01a22e5d-2532-7406-b53b-b710ddc98ecb', {ms:-7160}),
('01a22e5d-2533-7390-8547-928442f158b6', 'C002-L2', 'CHARGE', 'S000010', '2099-fall', 135000, '01a22e5d-2533-7390-8547-928442f158b6', {ms:-7160}),
('01a22e5d-253e-7573-9ddb-fd14f7d98073', 'C004-L2', 'CHARGE', 'S000001', '2099-fall', 135000, '01a22e5d-253e-7573-9ddb-fd14f7d98073', {ms:-7160}),
('01a22e5d-2372-73dc-b005-af1718973d85', 'C002-L2', 'REFUND', 'S000001', '2099-fall', -135000, '01a22e5d-253e-7573-9ddb-fd14f7d98073', {ms:-7154});
INSERT INTO accounts (student_id, balance) VALUES
('S000001', 270000),
('S000002', 270000),
('S000003', 270000),
('S000004', 270000),
('S000005', 135000),
('S000006', 135000),
('S000009', 135000),
('S000008', 135000),
('S000010', 135000);
