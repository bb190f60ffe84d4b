-- Rows of enrollments as a build has left them whose last migration is 0102.
-- ms:-5 in braces stands for the time 5 ms ago.
INSERT INTO barrier (saga_id, step, answer, undone, recorded_at) VALUES
('01a22e5d-2372-73dc-b005-af1718973d85', 'create_enrollments', '{"done":{}}', 0, {ms:-7622}),
('01a22e5d-2372-73dc-b005-af1718973d85', 'commit_enrollments', '{"done":{}}', 0, {ms:-7621}),
('01a22e5d-2393-70e2-b8a9-5e6f3c1e49e0', 'create_enrollments', '{"done":{}}', 0, {ms:-7573}),
('01a22e5d-2393-70e2-b8a9-5e6f3c1e49e0', 'commit_enrollments', '{"done":{}}', 0, {ms:-7562}),
('01a22e5d-23e6-714a-84e6-684584233523', 'create_enrollments', '{"done":{}}', 0, {ms:-7488}),
('01a22e5d-23e6-714a-84e6-684584233523', 'commit_enrollments', '{"done":{}}', 0, {ms:-7473}),
('01a22e5d-244c-7149-bf9f-c0c2efd19271', 'create_enrollments', '{"done":{}}', 0, {ms:-7406}),
('01a22e5d-244c-7149-bf9f-c0c2efd19271', 'commit_enrollments', '{"done":{}}', 0, {ms:-7398}),
('01a22e5d-247e-7505-92d8-860340af1e0b', 'create_enrollments', '{"done":{}}', 0, {ms:-7362}),
('01a22e5d-247e-7505-92d8-860340af1e0b', 'commit_enrollments', '{"done":{}}', 0, {ms:-7350}),
('01a22e5d-24b0-728b-9511-1ac34caa424d', 'create_enrollments', '{"done":{}}', 0, {ms:-7310}),
('01a22e5d-24b0-728b-9511-1ac34caa424d', 'commit_enrollments', '{"done":{}}', 0, {ms:-7298}),
('01a22e5d-2532-7406-b53b-b70f031eef72', 'create_enrollments', '{"done":{}}', 0, {ms:-7165}),
('01a22e5d-2532-7406-b53b-b70f031eef72', 'commit_enrollments', '{"done":{}}', 0, {ms:-7163}),
('01a22e5d-2532-7406-b53b-b710ddc98ecb', 'create_enrollments', '{"done":{}}', 0, {ms:-7161}),
('01a22e5d-2533-7390-8547-928442f158b6', 'create_enrollments', '{"done":{}}', 0, {ms:-7161}),
('01a22e5d-253e-7573-9ddb-fd14f7d98073', 'create_enrollments', '{"done":{}}', 0, {ms:-7161}),
('01a22e5d-2532-7406-b53b-b710ddc98ecb', 'commit_enrollments', '{"done":{}}', 0, {ms:-7160}),
('01a22e5d-2533-7390-8547-928442f158b6', 'commit_enrollments', '{"done":{}}', 0, {ms:-7160}),
('01a22e5d-253e-7573-9ddb-fd14f7d98073', 'commit_enrollments', '{"done":{}}', 0, {ms:-7160}),
('01a22e5d-291d-7538-8413-688c3d4ffe31', 'create_enrollments', '{"done":{}}', 0, {ms:-6186}),
('01a22e5d-291e-7047-86bd-8147619e3b70', 'create_enrollments', '{"done":{}}', 0, {ms:-6184}),
('01a22e5d-2920-7093-92db-f81922ac6b29', 'create_enrollments', '{"done":{}}', 0, {ms:-6183});
DELETE FROM import_version;
INSERT INTO import_version (one, version) VALUES
(1, 0);
INSERT INTO enrollments (registration_id, section_id, student_id, course_id, component, status, dropped_by_registration_id, created_at, changed_at, roster_row_id, dropped_by_import) VALUES
('01a22e5d-2372-73dc-b005-af1718973d85', 'C002-L2', 'S000001', 'C002', '', 'DROPPED', '01a22e5d-253e-7573-9ddb-fd14f7d98073', {ms:-7622}, {ms:-7160}, NULL, 0),
('01a22e5d-2372-73dc-b005-af1718973d85', 'C003-L1', 'S000001', 'C003', '', 'ENROLLED', NULL, {ms:-7622}, {ms:-7621}, NULL, 0),
('01a22e5d-2393-70e2-b8a9-5e6f3c1e49e0', 'C002-L2', 'S000002', 'C002', '', 'ENROLLED', NULL, {ms:-7573}, {ms:-7562}, NULL, 0),
('01a22e5d-2393-70e2-b8a9-5e6f3c1e49e0', 'C003-L1', 'S000002', 'C003', '', 'ENROLLED', NULL, {ms:-7573}, {ms:-7562}, NULL, 0),
('01a22e5d-23e6-714a-84e6-684584233523', 'C002-L2', 'S000003', 'C002', '', 'ENROLLED', NULL, {ms:-7488}, {ms:-7473}, NULL, 0),
('01a22e5d-23e6-714a-84e6-684584233523', 'C003-L1', 'S000003', 'C003', '', 'ENROLLED', NULL, {ms:-7488}, {ms:-7473}, NULL, 0),
('01a22e5d-244c-7149-bf9f-c0c2efd19271', 'C002-L2', 'S000004', 'C002', '', 'ENROLLED', NULL, {ms:-7406}, {ms:-7398}, NULL, 0),
('01a22e5d-244c-7149-bf9f-c0c2efd19271', 'C003-L1', 'S000004', 'C003', '', 'ENROLLED', NULL, {ms:-7406}, {ms:-7398}, NULL, 0),
('01a22e5d-247e-7505-92d8-860340af1e0b', 'C002-L1', 'S000005', 'C002', '', 'ENROLLED', NULL, {ms:-7362}, {ms:-7350}, NULL, 0),
('01a22e5d-24b0-728b-9511-1ac34caa424d', 'C002-L1', 'S000006', 'C002', '', 'ENROLLED', NULL, {ms:-7310}, {ms:-7298}, NULL, 0),
('01a22e5d-2532-7406-b53b-b70f031eef72', 'C002-L2', 'S000009', 'C002', '', 'ENROLLED', NULL, {ms:-7165}, {ms:-7163}, NULL, 0),
('01a22e5d-2532-7406-b53b-b710ddc98ecb', 'C002-L2', 'S000008', 'C002', '', 'ENROLLED', NULL, {ms:-7161}, {ms:-7160}, NULL, 0),
('01a22e5d-2533-7390-8547-928442f158b6', 'C002-L2', 'S000010', 'C002', '', 'ENROLLED', NULL, {ms:-7161}, {ms:-7160}, NULL, 0),
('01a22e5d-253e-7573-9ddb-fd14f7d98073', 'C004-L2', 'S000001', 'C004', '', 'ENROLLED', NULL, {ms:-7161}, {ms:-7160}, NULL, 0),
('01a22e5d-291d-7538-8413-688c3d4ffe31', 'C003-L1', 'S000012', 'C003', '', 'PENDING', NULL, {ms:-6186}, {ms:-6186}, NULL, 0),
('01a22e5d-291e-7047-86bd-8147619e3b70', 'C003-L1', 'S000013', 'C003', '', 'PENDING', NULL, {ms:-6184}, {ms:-6184}, NULL, 0),
('01a22e5d-2920-7093-92db-f81922ac6b29', 'C003-L1', 'S000014', 'C003', '', 'PENDING', NULL, {ms:-6183}, {ms:-6183}, NULL, 0);
